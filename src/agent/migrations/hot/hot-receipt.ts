import type { Receipt } from "#core";
import type { OnDemandState } from "#userdata";
import { downtimeOf, receiptPart } from "../receipt.ts";
import type { HotDestinationRecord } from "../record.ts";

export interface HotEnd {
  readonly cloud: string;
  readonly ended_ms: number;
  /** Undefined where an earlier agent has filled the disk and died. */
  readonly disk: OnDemandState | undefined;
  readonly allocatedBytes: number;
}

const span = (from_ms: number, to_ms: number): number => Math.max(0, to_ms - from_ms);

/** What a hot migration did, as the destination saw it. */
export function makeHotReceipt(record: HotDestinationRecord, end: HotEnd): Receipt {
  const { userDataSizeBytes, memory, ahead, off_ms = 0, armed_ms = 0, token_ms = 0 } = record;
  const { on_ms = 0, hot, staleBytes = 0 } = record;
  const { disk, cloud, ended_ms } = end;
  const part = receiptPart(record, cloud, ended_ms);
  const components = part.components.reduce((sum, { bytes }) => sum + bytes, 0);
  const memoryBytes = memory?.wireBytes ?? 0;
  return {
    ...part,
    mode: "hot",
    userData: {
      sizeBytes: userDataSizeBytes,
      allocatedBytes: end.allocatedBytes,
      bytes: Math.max(0, record.wireBytes - components - memoryBytes),
      ...(ahead?.lineage === true ? { lineage: true } : {}),
    },
    phases_ms: {
      ...part.phases_ms,
      memory: record.took_ms.memory ?? 0,
      switch: downtimeOf(record),
    },
    downtime_ms: downtimeOf(record),
    stop: "none",
    hot: {
      memory: {
        method: record.switch?.method ?? "precopy",
        passes: record.switch?.passes ?? 0,
        rawBytes: memory?.rawBytes ?? 0,
        wireBytes: memoryBytes,
        componentPages: record.switch?.componentPages ?? 0,
        repeatedPages: record.switch?.repeatedPages ?? 0,
      },
      storage: {
        method: hot.storage,
        passes: ahead?.passes ?? 0,
        aheadBytes: ahead?.bytes ?? 0,
        staleBytes,
        demandedBytes: disk?.demandedBytes ?? 0,
        backgroundBytes: disk?.backgroundBytes ?? 0,
        supersededBytes: disk?.supersededBytes ?? 0,
        zeroBytes: disk?.zeroBytes ?? 0,
      },
      pause_ms: {
        status: span(off_ms, armed_ms),
        token: span(armed_ms, token_ms),
        resume: span(token_ms, on_ms),
      },
      fill_ms: span(on_ms, ended_ms),
      ...(record.restarted === true ? { restarted: true } : {}),
    },
  };
}
