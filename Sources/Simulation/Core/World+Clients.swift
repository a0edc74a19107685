import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import StoreActor
import SwiftProtobuf

/// A client with one request at a time.
struct Client {
  let number: Int
  /// Counts requests; an answer to an older one is ignored.
  var operation: UInt64 = 0
  var isWaiting = false
  /// When the request under way was made.
  var since: UInt64 = 0
  var readRange: (from: Int, to: Int, asked: Int64) = (0, 0, 0)
  /// Leases that it was granted.
  var leases: [LeaseID] = []
}

extension World {
  /// The next request of a client, at a member of its choice.
  func act(_ number: Int) throws(Violation) {
    guard !clients[number].isWaiting else { return }
    let slot = draw(0...nodes.count - 1)
    let node = nodes[slot]
    guard node.isRunning, node.pausedUntil <= now, !isQuiet else {
      if node.isRunning, !isQuiet, chance(1, of: 2) { return askPaused(node, number) }
      queue.add(.client(number), at: now + UInt64(draw(10...500)) * Self.millisecond)
      return
    }
    let operation = begin(number)
    if draw(1...100) <= options.readShare {
      try read(on: node, number, operation)
    } else if let lease = clients[number].leases.last, draw(1...200) <= options.leaseShare {
      try keepAlive(lease, on: node, number, operation)
    } else {
      let command = Workload(options: options).makeCommand(
        &random, oracle.model, leases: &clients[number].leases)
      try propose(command, on: node, number, operation)
    }
  }

  /// A request to a process that stands still lies in the socket until it goes on.
  private func askPaused(_ node: Node, _ number: Int) {
    let operation = begin(number)
    if let lease = clients[number].leases.last, chance(1, of: 2) {
      queue.add(
        .keepAlive(node.slot, client: number, operation: operation, lease: lease), at: now)
    } else {
      queue.add(
        .read(
          node.slot, incarnation: node.incarnation, client: number, operation: operation,
          committed: oracle.ruledCommit), at: now)
    }
  }

  /// A new request of the client, which it will give up after some seconds.
  private func begin(_ number: Int) -> UInt64 {
    clients[number].operation += 1
    clients[number].isWaiting = true
    clients[number].since = now
    let operation = clients[number].operation
    queue.add(
      .timeout(number, operation: operation), at: now + UInt64(draw(500...5000)) * Self.millisecond)
    return operation
  }

  /// Whether the client still waits for the answer to that request.
  // MARK: - Writes

  private func propose(
    _ command: Command, on node: Node, _ client: Int, _ operation: UInt64
  ) throws(Violation) {
    let id = node.makeRequestID()
    oracle.operations[id] = Operation(
      command: command, client: client, invokedAt: now, commitAtInvocation: oracle.ruledCommit)
    node.waiters[id] = (client, operation)
    trace.note(now, "client \(client) at \(node.id): \(command)")
    let (kind, body) = Workload.encode(command)
    let payload = InternalRequestEnvelope.wrap(kind, payload: body, requestID: id)
    if case .dropped = node.core?.propose([payload]) {
      node.waiters[id] = nil
      finish(client, operation, after: 50)
    }
    try drain(node)
  }

  /// The store answers a request that was made here.
  func answer(_ reply: StoreReply, on node: Node) throws(Violation) {
    guard let (client, operation) = node.waiters.removeValue(forKey: reply.id) else { return }
    guard let command = oracle.operations[reply.id]?.command else { return }
    switch reply.outcome {
    case .failure:
      try oracle.answered(
        reply.id, succeeded: false, revision: 0, count: nil, by: node.id,
        applied: node.machine.applied)
    case .message(let message):
      let (revision, count) = Workload.decode(message, command)
      try oracle.answered(
        reply.id, succeeded: true, revision: revision, count: count, by: node.id,
        applied: node.machine.applied)
      oracle.counts.writes += 1
      if case .grant(let lease, let ttl) = command, waits(client, operation) {
        let granted = max(ttl, oracle.model.ttlMin)
        try oracle.renewed(lease, ttl: granted, since: clients[client].since, on: node)
        clients[client].leases.append(lease)
      }
    }
    trace.note(now, "client \(client) has its answer from \(node.id)")
    finish(client, operation)
  }

  // MARK: - Reads

  /// - Parameter committed: what was committed when the client asked.
  func read(
    on node: Node, _ client: Int, _ operation: UInt64, committed: LogIndex? = nil
  ) throws(Violation) {
    let from = draw(0...options.keys - 1)
    let newest = node.machine.kv.currentRevision
    let asked = chance(1, of: 3) ? max(1, newest - Int64(draw(-1...15))) : 0
    clients[client].readRange = (from, draw(from + 1...options.keys), asked)
    if committed == nil, chance(1, of: 4) {
      // Serializable: whatever the member holds.
      try serve(client, on: node)
      finish(client, operation)
      return
    }
    let id = node.makeRequestID()
    oracle.reads[id] = committed ?? oracle.ruledCommit
    node.reads[id] = PendingRead(client: client, operation: operation, index: 0)
    trace.note(now, "client \(client) reads at \(node.id)")
    if plant == .readWithoutQuorum, let core = node.core, core.role == .leader {
      try confirm(.init(context: id.bigEndianBytes, index: core.commit), on: node)
      try serveReads(node)
      return
    }
    if node.core?.readIndex(context: id.bigEndianBytes) != true {
      node.reads[id] = nil
      finish(client, operation, after: 50)
    }
    try drain(node)
  }

  func confirm(_ state: RaftCore.ReadState, on node: Node) throws(Violation) {
    let id = state.context.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    // A message that the network repeated is not the core's doing.
    guard var read = node.reads.removeValue(forKey: id) else { return }
    try oracle.checkRead(id: id, index: state.index, node: node)
    read.index = state.index
    node.confirmedReads.append(read)
    enqueueRead(node)
  }

  private func enqueueRead(_ node: Node) {
    guard !node.storeIsDue else { return }
    node.storeIsDue = true
    queue.add(
      .store(node.slot, incarnation: node.incarnation), at: now + delay(options.applyDelay))
  }

  func dropRead(_ context: Bytes, on node: Node) {
    let id = context.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    if let read = node.reads.removeValue(forKey: id) { finish(read.client, read.operation) }
  }

  func serveReads(_ node: Node) throws(Violation) {
    guard !node.confirmedReads.isEmpty else { return }
    var waiting: [PendingRead] = []
    for read in node.confirmedReads {
      if read.index > node.machine.applied {
        waiting.append(read)
        continue
      }
      if clients[read.client].operation == read.operation, clients[read.client].isWaiting {
        if let lease = keepAlivesToProve.removeValue(
          forKey: read.operation << 8 | UInt64(read.client))
        {
          node.mustProve = false
          enqueue(
            .keepAlive(client: read.client, operation: read.operation, lease: lease), on: node)
          continue
        }
        try serve(read.client, on: node)
        finish(read.client, read.operation)
      }
    }
    node.confirmedReads = waiting
  }

  private func serve(_ client: Int, on node: Node) throws(Violation) {
    let (from, to, asked) = clients[client].readRange
    let request = Etcdserverpb_RangeRequest.with {
      $0.key = .init(Model.name(from))
      $0.rangeEnd = .init(Model.name(to))
      $0.revision = asked
    }
    let result = Result<[Bytes], KVError> { () throws(KVError) in
      try node.machine.kv.range(request).rows.records
    }
    try oracle.checkRows(from: from, to: to, asked: asked, result, on: node)
  }

  // MARK: - Keepalives

  /// The leader renews; a follower passes the request on.
  func keepAlive(
    _ lease: LeaseID, on node: Node, _ client: Int, _ operation: UInt64
  ) throws(Violation) {
    guard clients[client].operation == operation, clients[client].isWaiting else { return }
    guard let leader = slot(of: node.soft.leader) else {
      return finish(client, operation, after: 50)
    }
    if leader != node.slot {
      guard !blocked[node.slot][leader], !chance(1, of: 20) else { return }
      queue.add(
        .keepAlive(leader, client: client, operation: operation, lease: lease),
        at: now + 100_000 + delay(options.messageDelay))
      return
    }
    noteStall(node)
    if node.mustProve {
      let id = node.makeRequestID()
      oracle.reads[id] = oracle.ruledCommit
      node.reads[id] = PendingRead(client: client, operation: operation, index: 0)
      keepAlivesToProve[operation << 8 | UInt64(client)] = lease
      if node.core?.readIndex(context: id.bigEndianBytes) != true {
        node.reads[id] = nil
        keepAlivesToProve[operation << 8 | UInt64(client)] = nil
        finish(client, operation)
      }
      try drain(node)
      return
    }
    enqueue(.keepAlive(client: client, operation: operation, lease: lease), on: node)
  }
}

extension Oracle {
  /// A client was told that its lease lives on.
  mutating func renewed(
    _ lease: LeaseID, ttl: Int64, since: UInt64, on node: Node
  ) throws(Violation) {
    try require(
      !leaseRevoked.contains(lease) || node.machine.lessor.contains(lease), .lease,
      "\(node.id) renewed lease \(lease), which is revoked there")
    leaseUntil[lease] = max(leaseUntil[lease] ?? 0, since + UInt64(ttl) * World.second)
    counts.keepAlives += 1
  }
}
