// A device in a page: the HTTP tunnel (docs/protocol.md) over fetch. Messages go up in short requests, one at a time, and
// come down in a response that streams; where the way holds a stream back, in requests that are held until there is something.

import { ACK, ERROR, FAILED, FrameDecoder, HELLO, MSG, ROOM, WELCOME, concat, encode, pack, unpack } from "./frames.js";

const HOLD_MS = 20_000; // of a request that polls
const PATIENCE_MS = 5_000; // for a stream's first frame
const SILENCE_MS = 75_000; // of a stream: the gateway pings every 30 seconds
const LONGEST_WAIT_MS = 20_000;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What the gateway does not take, and never will as it is. */
export class Refused extends Error {}

/** store: where the device's place is kept (`sessionStorage`). onMessage({seq, route, body}), onMissing(), onState(text). */
export class Tunnel {
  #queue = []; // of what has no answer, in rising order of its numbers
  #last = null; // the highest number given to a message; null = not known yet
  #sending = false;
  #polls = false;
  #closed = new AbortController();

  constructor({ token, device, url = "/im", store, onMessage, onMissing = () => {}, onState = () => {} }) {
    Object.assign(this, { token, device, url, store, onMessage, onMissing, onState });
  }

  /** Begin to receive. */
  start() {
    this.#receive();
  }

  /** End: nothing more comes, and what was not sent never will be. */
  close() {
    this.#closed.abort();
  }

  /** Send bytes to a service. Resolves once they are durable there; rejects with `Refused`. */
  send(route, body) {
    return new Promise((resolve, reject) => {
      this.#queue.push({ id: null, route, body, resolve, reject, givenUp: false });
      if (!this.#sending) this.#up();
    });
  }

  async #up() {
    this.#sending = true;
    for (let failures = 0; this.#queue.length && !this.#closed.signal.aborted; ) {
      try {
        // Numbers rise for each device. Whoever lost count asks first: an exchange that says HELLO alone.
        if (this.#last !== null) for (const each of this.#queue) each.id ??= ++this.#last;
        const sent = this.#queue.filter((each) => each.id !== null);
        const frames = sent.map((each) => encode(MSG, each.givenUp
          ? { id: each.id, route: each.route, flags: FAILED }
          : { id: each.id, route: each.route, body: each.body }));
        for await (const frame of this.#exchange({ role: "up" }, frames)) {
          if (frame.type === WELCOME) this.#last ??= BigInt(unpack(frame.body).accepted);
          else if (frame.type === ACK) await this.#answered(frame);
        }
        failures = 0;
      } catch (error) {
        await this.#wait(error, failures++);
      }
    }
    this.#sending = false;
  }

  async #answered(frame) {
    const each = this.#queue.find((each) => each.id === frame.id);
    if (!each) return;
    if (frame.flags & FAILED && !each.givenUp) {
      const { code, text, retry_ms } = unpack(frame.body);
      if (retry_ms !== null) return sleep(retry_ms); // it stays in the queue, and what is behind it too
      each.givenUp = true; // the number is given up in the next exchange; until then what is behind it is held
      each.reject(new Refused(`${code}: ${text}`));
      return;
    }
    this.#queue.splice(this.#queue.indexOf(each), 1);
    each.resolve();
  }

  async #receive() {
    for (let failures = 0; !this.#closed.signal.aborted; ) {
      let heard = false;
      try {
        const poll_ms = this.#polls ? HOLD_MS : 0;
        for await (const frame of this.#exchange({ role: "down", poll_ms, resume: this.#place() })) {
          heard = true;
          failures = 0;
          if (frame.type === WELCOME) this.#welcomed(unpack(frame.body));
          else if (frame.type === MSG) this.#take(frame);
        }
        if (!heard) throw new Error("the answer was empty");
      } catch (error) {
        if (error.name === "TimeoutError" && !heard && !this.#polls) this.#polls = true; // the way holds streams back
        else await this.#wait(error, failures++);
      }
    }
  }

  #place() {
    const [epoch, seq] = JSON.parse(this.store.getItem("imcore.place") ?? "[null, null]");
    return epoch === null ? null : { epoch, seq: BigInt(seq) };
  }

  #keep(epoch, seq) {
    this.store.setItem("imcore.place", JSON.stringify([epoch, String(seq)]));
  }

  #welcomed(welcome) {
    this.onState(this.#polls ? "connected, polling" : "connected");
    const place = this.#place();
    if (place && !welcome.resumed) this.onMissing();
    if (!place || !welcome.resumed) this.#keep(welcome.epoch, BigInt(welcome.first) - 1n);
  }

  #take(frame) {
    const place = this.#place();
    if (frame.id && frame.id <= place.seq) return; // it came before
    this.onMessage({ seq: frame.id, route: frame.route, room: Boolean(frame.flags & ROOM), body: frame.body });
    if (frame.id) this.#keep(place.epoch, frame.id); // the next exchange acknowledges it
  }

  /** One exchange: the frames of the answer, as they come. Throws for what is no answer of a gateway. */
  async *#exchange(hello, frames = []) {
    const patience = new AbortController();
    const expect = (ms) => {
      clearTimeout(this[hello.role]);
      this[hello.role] = setTimeout(() => patience.abort(new DOMException("too late", "TimeoutError")), ms);
    };
    const nonce = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16)).join("");
    const me = { token: this.token, device: this.device, client: "browser", nonce };
    const first = encode(HELLO, { body: pack({ ...me, ...hello }) });
    expect(PATIENCE_MS + (hello.poll_ms ?? HOLD_MS));
    try {
      const response = await fetch(this.url, {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream" },
        body: concat([first, ...frames]),
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.any([this.#closed.signal, patience.signal]),
      });
      const type = response.headers.get("Content-Type");
      if (response.status !== 200 || type !== "application/octet-stream") {
        throw new Error(`this is not the gateway: status ${response.status}, ${type}`);
      }
      const decoder = new FrameDecoder();
      const reader = response.body.getReader();
      for (let piece; !(piece = await reader.read()).done; ) {
        expect(SILENCE_MS);
        for (const frame of decoder.feed(piece.value)) {
          if (frame.type === WELCOME || frame.type === ERROR) {
            const answer = unpack(frame.body);
            if ((answer.nonce ?? nonce) !== nonce) throw new Error("a cache gave the answer to another request");
            if (frame.type === ERROR) throw failed(answer);
            decoder.limit = answer.max_frame;
          }
          yield frame;
        }
      }
    } finally {
      clearTimeout(this[hello.role]);
      patience.abort();
    }
  }

  async #wait(error, failures) {
    if (this.#closed.signal.aborted) return;
    if (error.final) {
      this.onState(error.message);
      for (const each of this.#queue.splice(0)) each.reject(error);
      return this.close();
    }
    this.onState(`waiting for the gateway (${error.message})`);
    await sleep(Math.random() * Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures)); // full jitter
  }
}

function failed({ code, text, retry_ms }) {
  return Object.assign(new Error(`${code}: ${text}`), { final: retry_ms === null });
}
