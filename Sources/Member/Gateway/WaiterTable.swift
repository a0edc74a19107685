import Base
import EtcdAPI
import HTTP

/// A call and the connection whose output its answer belongs to.
struct CallHandle {
  let call: ServerCall
  let connection: ClientConnection
  let method: GatewayMethod
  let startedAt: UInt64
}

/// What happens with the answer to a request.
enum Waiter {
  /// Answered as it is.
  case call(CallHandle)
  /// A stream of range parts that ends with the reply.
  case parts(CallHandle)
  case memberList(CallHandle)
  case page((StoreOutcome) -> Void)
  /// Requests of the member itself.
  case own((StoreOutcome) -> Void)
  case keepAlive(stream: UInt64)
  case snapshot(CallHandle)
  /// A lease request of another member's client.
  case forwarded(UInt64)
  case memberChange(CallHandle, MemberChange)
}

extension Waiter {
  /// The client's call, if the answer goes straight to one.
  var handle: CallHandle? {
    switch self {
    case .call(let handle), .parts(let handle), .memberList(let handle), .snapshot(let handle),
      .memberChange(let handle, _):
      handle
    case .page, .own, .keepAlive, .forwarded: nil
    }
  }
}

/// Who waits for what, by request id. Every way out removes exactly once.
struct WaiterTable {
  struct Entry {
    var waiter: Waiter
    /// Bytes in the log that this request accounts for.
    var bytes: Int
    var isWrite: Bool
    var startedAt: UInt64
  }

  private var entries: [UInt64: Entry] = [:]
  /// Ids in order of their deadline, which is the same distance for all.
  private var order: [(id: UInt64, deadline: UInt64)] = []
  private var head = 0
  private(set) var writes = 0
  private(set) var writeBytes = 0

  var count: Int { entries.count }

  /// - Parameter deadline: when to give up; nil = never.
  mutating func add(
    _ id: UInt64, _ waiter: Waiter, bytes: Int = 0, isWrite: Bool = false, now: UInt64,
    deadline: UInt64?
  ) {
    entries[id] = Entry(waiter: waiter, bytes: bytes, isWrite: isWrite, startedAt: now)
    if isWrite {
      writes += 1
      writeBytes += bytes
    }
    if let deadline { order.append((id, deadline)) }
  }

  mutating func take(_ id: UInt64) -> Entry? {
    guard let entry = entries.removeValue(forKey: id) else { return nil }
    if entry.isWrite {
      writes -= 1
      writeBytes -= entry.bytes
    }
    return entry
  }

  /// What waits under `id` is under way for as long as it takes.
  mutating func keepWithoutDeadline(_ id: UInt64) {
    order.removeAll { $0.id == id }
    head = 0
  }

  subscript(id: UInt64) -> Waiter? { entries[id]?.waiter }

  /// Removes and returns calls whose own deadline has passed. Looks at all that are open.
  mutating func overdue(now: UInt64) -> [(id: UInt64, entry: Entry)] {
    let ids = entries.compactMap { id, entry in
      (entry.waiter.handle?.call.deadline ?? .max) <= now ? id : nil
    }
    return ids.sorted().compactMap { id in take(id).map { (id, $0) } }
  }

  /// Removes and returns what has waited too long.
  mutating func expired(now: UInt64) -> [Entry] {
    var expired: [Entry] = []
    while head < order.count, order[head].deadline <= now {
      if let entry = take(order[head].id) { expired.append(entry) }
      head += 1
    }
    // Answered entries before the first open one are of no use either.
    while head < order.count, entries[order[head].id] == nil { head += 1 }
    if head > 1024, head * 2 > order.count {
      order.removeFirst(head)
      head = 0
    }
    return expired
  }
}
