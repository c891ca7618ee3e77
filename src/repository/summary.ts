import { SUMMARY_HEADS_MAX, summaryHead, type Component, type RepositorySummary } from "#core";

/** What a cloud's offer says of its repository: the count, and the heads of the lowest ids. */
export function summaryOf(components: readonly Component[]): RepositorySummary {
  const heads = components.map(({ id }) => summaryHead(id)).toSorted();
  return {
    components: components.length,
    heads: heads.slice(0, SUMMARY_HEADS_MAX),
    complete: heads.length <= SUMMARY_HEADS_MAX,
  };
}
