// Which requests a load consists of.

import Base

/// One kind of load, with everything that its requests depend on.
struct Workload: Sendable {
  enum Kind: Sendable {
    case put
    case range
    /// Compare and put: succeeds always, so that each one writes.
    case txn(puts: Int)
    case mixed(readShare: Double)
    case leaseGrant(ttl: Int)
    case leaseKeepAlive
  }

  var kind: Kind
  var keys: KeyShape
  var keySpace: Int
  var isSequential = false
  var value: [UInt8] = []
  var lease: UInt64 = 0
  var stampsValues = false
  var seed: UInt64 = 1
  /// Of ranges.
  var isSerializable = false
  var span = 1
  var limit = 0
  var keysOnly = false
  var countOnly = false
  /// Leases are numbered from here.
  var leaseBase: UInt64 = 0
}

/// Writes one request after the other.
struct RequestMaker {
  private let load: Workload
  private var random: SeededGenerator
  private var sequence: Int
  private let step: Int
  private let readThreshold: UInt64

  /// - Parameters:
  ///   - worker: this maker's place among `workers`, which share the key space when sequential.
  init(_ load: Workload, worker: Int, of workers: Int) {
    self.load = load
    random = SeededGenerator(seed: load.seed &* 1_000_003 &+ UInt64(worker))
    sequence = worker
    step = workers
    if case .mixed(let share) = load.kind {
      readThreshold = UInt64(share * 4_294_967_296)
    } else {
      readThreshold = 0
    }
  }

  private mutating func number() -> Int {
    if load.isSequential {
      defer { sequence += step }
      return sequence % load.keySpace
    }
    // Multiply and shift: no division, and no bias that matters here.
    return Int((random.next() >> 32) &* UInt64(load.keySpace) >> 32)
  }

  /// Writes one framed request.
  mutating func make(into writer: inout MessageWriter, now: UInt64) -> Method {
    writer.removeAll()
    writer.beginFrame()
    let method = write(into: &writer, now: now)
    writer.endFrame()
    return method
  }

  private mutating func write(into writer: inout MessageWriter, now: UInt64) -> Method {
    switch load.kind {
    case .put: return put(into: &writer, now: now)
    case .range: return range(into: &writer)
    case .mixed:
      return random.next() >> 32 < readThreshold
        ? range(into: &writer) : put(into: &writer, now: now)
    case .txn(let puts): return txn(puts, into: &writer)
    case .leaseGrant(let ttl):
      writer.field(1, UInt64(ttl))
      writer.field(2, load.leaseBase + UInt64(sequence))
      sequence += step
      return .leaseGrant
    case .leaseKeepAlive:
      writer.field(1, load.leaseBase + UInt64(number()))
      return .leaseKeepAlive
    }
  }

  private mutating func put(into writer: inout MessageWriter, now: UInt64) -> Method {
    writer.put(load.keys, number(), value: load.value, stamp: load.stampsValues ? now : 0)
    if load.lease != 0 { writer.field(3, load.lease) }
    return .put
  }

  private mutating func range(into writer: inout MessageWriter) -> Method {
    let first = load.span < load.keySpace ? number() % (load.keySpace - load.span + 1) : 0
    writer.prefix(1, load.keys.count)
    writer.key(load.keys, first)
    if load.span > 1 {
      writer.prefix(2, load.keys.count)
      writer.key(load.keys, first + load.span)
    }
    if load.limit > 0 { writer.field(3, UInt64(load.limit)) }
    if load.isSerializable { writer.field(7, 1) }
    if load.keysOnly { writer.field(8, 1) }
    if load.countOnly { writer.field(9, 1) }
    return .range
  }

  /// version(key) > -1, then `puts` puts of different keys.
  private mutating func txn(_ puts: Int, into writer: inout MessageWriter) -> Method {
    let first = number() * puts % load.keySpace
    let keyField = MessageWriter.fieldCount(load.keys.count)
    // Compare: result GREATER, target VERSION, key, version -1 (ten bytes as a varint).
    writer.prefix(1, 2 + keyField + 11)
    writer.field(1, 1)
    writer.prefix(3, load.keys.count)
    writer.key(load.keys, first)
    writer.field(4, .max)
    let body = MessageWriter.putCount(load.keys, load.value)
    for place in 0..<puts {
      writer.prefix(2, MessageWriter.fieldCount(body))
      writer.prefix(2, body)
      writer.put(load.keys, (first + place) % load.keySpace, value: load.value)
    }
    return .txn
  }
}
