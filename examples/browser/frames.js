// Frames (docs/protocol.md), and as much MessagePack as their control maps need: bytes in, values out, and back.

export const HELLO = 1, WELCOME = 2, PING = 3, PONG = 4, MSG = 5, ACK = 6, JOIN = 7, LEAVE = 8, GOAWAY = 9, ERROR = 10;
export const DUP = 1, ROOM = 2, FAILED = 4;

const HEADER = 16;
const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The bytes of a frame. id: a BigInt, since ids go up to 2**64 - 1. body: bytes. */
export function encode(type, { id = 0n, route = "", body = new Uint8Array(), flags = 0 } = {}) {
  const name = utf8.encode(route);
  const frame = new Uint8Array(HEADER + name.length + body.length);
  const view = new DataView(frame.buffer);
  frame.set([0xa1, type, flags, name.length]);
  view.setUint32(4, name.length + body.length);
  view.setBigUint64(8, BigInt(id));
  frame.set(name, HEADER);
  frame.set(body, HEADER + name.length);
  return frame;
}

/** Bytes in, frames out, from any cut. */
export class FrameDecoder {
  #held = new Uint8Array();

  constructor(limit = 65536) {
    this.limit = limit;
  }

  /** The frames that are whole with these bytes. Throws at the first byte that is none. */
  feed(data) {
    const bytes = this.#held.length ? concat([this.#held, data]) : data;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const frames = [];
    let at = 0;
    while (bytes.length - at >= HEADER) {
      const [magic, type, flags, size] = bytes.subarray(at, at + 4);
      const length = view.getUint32(at + 4);
      if (magic !== 0xa1 || type < 1 || type > 11 || flags > 7 || size > length) throw new Error("not a frame");
      if (length > this.limit) throw new Error(`a frame of ${length} bytes, above the limit of ${this.limit}`);
      const end = at + HEADER + length;
      if (end > bytes.length) break;
      const body = at + HEADER + size;
      const route = text.decode(bytes.subarray(at + HEADER, body));
      frames.push({ type, flags, id: view.getBigUint64(at + 8), route, body: bytes.slice(body, end) });
      at = end;
    }
    this.#held = bytes.slice(at);
    return frames;
  }
}

export function concat(parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** MessagePack of null, booleans, integers (BigInt too), strings, arrays and maps with string keys. */
export function pack(value) {
  const parts = [];
  write(value, parts);
  return concat(parts);
}

function write(value, parts) {
  if (value === null) parts.push([0xc0]);
  else if (typeof value === "boolean") parts.push([value ? 0xc3 : 0xc2]);
  else if (typeof value === "bigint" || Number.isSafeInteger(value)) parts.push(integer(BigInt(value)));
  else if (typeof value === "string") {
    const bytes = utf8.encode(value);
    parts.push(sized(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb]), bytes);
  } else if (Array.isArray(value)) {
    parts.push(sized(value.length, 0x90, 16, [null, 0xdc, 0xdd]));
    for (const each of value) write(each, parts);
  } else if (typeof value === "object") {
    const entries = Object.entries(value);
    parts.push(sized(entries.length, 0x80, 16, [null, 0xde, 0xdf]));
    for (const [key, each] of entries) {
      write(key, parts);
      write(each, parts);
    }
  } else throw new TypeError(`MessagePack: no ${typeof value} here`);
}

function integer(value) {
  if (value >= -32n && value < 128n) return [Number(BigInt.asUintN(8, value))];
  const view = new DataView(new ArrayBuffer(9));
  view.setUint8(0, value < 0n ? 0xd3 : 0xcf);
  view.setBigInt64(1, BigInt.asIntN(64, value));
  if (BigInt.asIntN(64, value) !== value && BigInt.asUintN(64, value) !== value) throw new RangeError("above 64 bits");
  return new Uint8Array(view.buffer);
}

/** A size: within the type's byte if it is below `few`, else behind it in 1, 2 or 4 bytes. */
function sized(size, tag, few, [one, two, four]) {
  if (size < few) return [tag | size];
  if (one !== null && size < 256) return [one, size];
  return size < 65536 ? [two, size >> 8, size & 255] : [four, ...new Uint8Array(new Uint32Array([size]).buffer).reverse()];
}

/** The value that these bytes are, all of them. Integers above 2**53 come as BigInt. Throws for what is none. */
export function unpack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [value, end] = read(view, 0);
  if (end !== bytes.length) throw new Error(`MessagePack: ${bytes.length - end} bytes too many`);
  return value;
}

function read(view, at) {
  const tag = view.getUint8(at++);
  const take = (size) => new Uint8Array(view.buffer, view.byteOffset + at, size);
  const string = (size, from) => ((at = from), [text.decode(take(size)), from + size]);
  const list = (size, from, each) => {
    const found = [];
    for (at = from; size > 0; size--) [found[found.length], at] = each(at);
    return [found, at];
  };
  const array = (size, from) => list(size, from, (here) => read(view, here));
  const map = (size, from) => {
    const [entries, end] = list(size, from, (here) => {
      const [key, behind] = read(view, here);
      const [value, next] = read(view, behind);
      return [[key, value], next];
    });
    return [Object.fromEntries(entries), end];
  };
  const number = (value) => (Number.isSafeInteger(Number(value)) ? Number(value) : value);

  if (tag < 0x80) return [tag, at];
  if (tag < 0x90) return map(tag & 15, at);
  if (tag < 0xa0) return array(tag & 15, at);
  if (tag < 0xc0) return string(tag & 31, at);
  if (tag >= 0xe0) return [tag - 256, at];
  switch (tag) {
    case 0xc0: return [null, at];
    case 0xc2: return [false, at];
    case 0xc3: return [true, at];
    case 0xca: return [view.getFloat32(at), at + 4];
    case 0xcb: return [view.getFloat64(at), at + 8];
    case 0xcc: return [view.getUint8(at), at + 1];
    case 0xcd: return [view.getUint16(at), at + 2];
    case 0xce: return [view.getUint32(at), at + 4];
    case 0xcf: return [number(view.getBigUint64(at)), at + 8];
    case 0xd0: return [view.getInt8(at), at + 1];
    case 0xd1: return [view.getInt16(at), at + 2];
    case 0xd2: return [view.getInt32(at), at + 4];
    case 0xd3: return [number(view.getBigInt64(at)), at + 8];
    case 0xd9: return string(view.getUint8(at), at + 1);
    case 0xda: return string(view.getUint16(at), at + 2);
    case 0xdb: return string(view.getUint32(at), at + 4);
    case 0xdc: return array(view.getUint16(at), at + 2);
    case 0xdd: return array(view.getUint32(at), at + 4);
    case 0xde: return map(view.getUint16(at), at + 2);
    case 0xdf: return map(view.getUint32(at), at + 4);
    default: throw new Error(`MessagePack: no type ${tag} here`);
  }
}
