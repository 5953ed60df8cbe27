/** Figures of the process itself. */
import { type IntervalHistogram, monitorEventLoopDelay, performance } from "node:perf_hooks";

export interface ProcessFigures {
  readonly uptimeS: number;
  readonly delayP50S: number;
  readonly delayP99S: number;
  readonly delayMaxS: number;
  /** 0 to 1. */
  readonly utilization: number;
  readonly cpuS: number;
  readonly residentBytes: number;
  readonly heapBytes: number;
}

/** How long delays are gathered before they are shown and gathered anew, in milliseconds. */
const windowMs = 10_000;
/** The monitor's timer, in milliseconds: the least delay that it sees. */
const resolutionMs = 20;

/** Watches the event loop; what it sees belongs to the last full window, whoever asks. */
export class ProcessWatch {
  readonly #delays: IntervalHistogram = monitorEventLoopDelay({ resolution: resolutionMs });
  readonly #timer: NodeJS.Timeout;
  #loop = performance.eventLoopUtilization();
  #shown = { delayP50S: 0, delayP99S: 0, delayMaxS: 0, utilization: 0 };

  constructor() {
    this.#delays.enable();
    this.#timer = setInterval(() => this.#turn(), windowMs);
    this.#timer.unref();
  }

  read(): ProcessFigures {
    const cpu = process.cpuUsage();
    const memory = process.memoryUsage();
    return {
      ...this.#shown,
      uptimeS: process.uptime(),
      cpuS: (cpu.user + cpu.system) / 1e6,
      residentBytes: memory.rss,
      heapBytes: memory.heapUsed,
    };
  }

  close(): void {
    clearInterval(this.#timer);
    this.#delays.disable();
  }

  #turn(): void {
    const loop = performance.eventLoopUtilization();
    this.#shown = {
      delayP50S: lateS(this.#delays.percentile(50)),
      delayP99S: lateS(this.#delays.percentile(99)),
      delayMaxS: lateS(this.#delays.max),
      utilization: performance.eventLoopUtilization(loop, this.#loop).utilization,
    };
    this.#loop = loop;
    this.#delays.reset();
  }
}

/** The monitor measures from one firing of its timer to the next; what is over its interval is late. */
function lateS(nanoseconds: number): number {
  return Math.max(0, nanoseconds / 1e9 - resolutionMs / 1_000);
}
