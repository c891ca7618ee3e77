/** A strict XML parser's opinion of a text. */
import { SaxesParser } from "saxes";

/** @throws where the text is not well-formed */
export function parseXml(text: string): { readonly elements: number } {
  const parser = new SaxesParser();
  let elements = 0;
  parser.on("error", (error) => {
    throw error;
  });
  parser.on("opentag", () => {
    elements += 1;
  });
  parser.write(text).close();
  return { elements };
}
