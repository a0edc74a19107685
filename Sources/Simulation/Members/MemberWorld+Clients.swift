import Actors
import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import StoreActor
import SwiftProtobuf

// What a gateway does for its clients, simulated.

extension MemberWorld {
  func act(_ number: Int) throws(Violation) {
    guard !clients[number].isWaiting else { return }
    let node = nodes[draw(0...nodes.count - 1)]
    guard node.actors != nil, node.pausedUntil <= now, !isQuiet else {
      queue.add(.client(number), at: now + UInt64(draw(10...500)) * World.millisecond)
      return
    }
    clients[number].operation += 1
    clients[number].isWaiting = true
    clients[number].since = now
    let operation = clients[number].operation
    queue.add(
      .timeout(number, operation: operation),
      at: now + UInt64(draw(500...5000)) * World.millisecond)
    if draw(1...100) <= options.readShare {
      read(on: node, number, operation)
    } else if let lease = clients[number].leases.last, draw(1...200) <= options.leaseShare,
      node.soft.leader == node.id
    {
      ask(.leaseKeepAlive(lease), on: node, number, operation)
    } else {
      let command = Workload(options: options).makeCommand(
        &random, oracle.model, leases: &clients[number].leases)
      propose(command, on: node, number, operation)
    }
    collect(node)
  }

  private func propose(
    _ command: Command, on node: MemberNode, _ client: Int, _ operation: UInt64
  ) {
    let id = node.makeRequestID()
    oracle.operations[id] = Operation(
      command: command, client: client, invokedAt: now, commitAtInvocation: oracle.highestCommit)
    node.waiters[id] = MemberWaiter(client: client, operation: operation, kind: .write)
    trace.note(now, "client \(client) at \(node.id): \(command)")
    let (kind, body) = Workload.encode(command)
    node.actors?.raft.inbox.send(
      .propose(
        ids: [id], payloads: [InternalRequestEnvelope.wrap(kind, payload: body, requestID: id)]))
  }

  private func read(on node: MemberNode, _ client: Int, _ operation: UInt64) {
    let from = draw(0...options.keys - 1)
    let newest = node.actors?.store.status.revision ?? 1
    let asked = chance(1, of: 3) ? max(1, newest - Int64(draw(-1...15))) : 0
    clients[client].readRange = (from, draw(from + 1...options.keys), asked)
    let range = clients[client].readRange
    let request = Etcdserverpb_RangeRequest.with {
      $0.key = .init(Model.name(range.from))
      $0.rangeEnd = .init(Model.name(range.to))
      $0.revision = asked
    }
    if chance(1, of: 4) {
      ask(.range(request), on: node, client, operation)
      return
    }
    let id = node.makeRequestID()
    oracle.reads[id] = oracle.highestCommit
    node.waiters[id] = MemberWaiter(client: client, operation: operation, kind: .range)
    node.reads[id] = StoreRead(id: id, kind: .range(request))
    trace.note(now, "client \(client) reads at \(node.id)")
    node.actors?.raft.inbox.send(.readIndex(id: id))
  }

  /// A question that the store answers from what it holds.
  private func ask(
    _ kind: StoreRead.Kind, on node: MemberNode, _ client: Int, _ operation: UInt64
  ) {
    let id = node.makeRequestID()
    var waits = MemberWaiter.Kind.range
    if case .leaseKeepAlive = kind { waits = .keepAlive }
    node.waiters[id] = MemberWaiter(client: client, operation: operation, kind: waits)
    node.actors?.store.inbox.send(.read([StoreRead(id: id, kind: kind)], atLeast: 0))
  }

  // MARK: - Answers

  func answer(_ reply: StoreReply, on node: MemberNode) throws(Violation) {
    guard let waiter = node.waiters.removeValue(forKey: reply.id) else { return }
    let client = waiter.client
    defer { finish(client, waiter.operation) }
    if waiter.kind == .write, let command = oracle.operations[reply.id]?.command {
      let applied = node.actors?.store.status.applied ?? 0
      return try answered(
        reply, command, client, node, applied: applied, isHeard: waits(waiter))
    }
    guard waits(waiter), case .message(let message) = reply.outcome
    else { return }
    if waiter.kind == .range {
      guard let range = try? Etcdserverpb_RangeResponse(serializedBytes: message) else {
        throw Violation(.compaction, "\(node.id) answers a range unreadably")
      }
      try checkRange(range, client, node)
    } else if let answer = try? Etcdserverpb_LeaseKeepAliveResponse(serializedBytes: message),
      answer.ttl > 0
    {
      oracle.leaseUntil[answer.id] = max(
        oracle.leaseUntil[answer.id] ?? 0,
        clients[client].since + UInt64(answer.ttl) * World.second)
      oracle.counts.keepAlives += 1
    }
  }

  /// Whether the client has not given up.
  private func waits(_ waiter: MemberWaiter) -> Bool {
    clients[waiter.client].operation == waiter.operation && clients[waiter.client].isWaiting
  }

  private func answered(
    _ reply: StoreReply, _ command: Command, _ client: Int, _ node: MemberNode,
    applied: LogIndex, isHeard: Bool
  ) throws(Violation) {
    switch reply.outcome {
    case .failure:
      try oracle.answered(
        reply.id, succeeded: false, revision: 0, count: nil, by: node.id, applied: applied)
    case .message(let message):
      let (revision, count) = Workload.decode(message, command)
      try oracle.answered(
        reply.id, succeeded: true, revision: revision, count: count, by: node.id, applied: applied)
      oracle.counts.writes += 1
      if case .grant(let lease, let ttl) = command, isHeard {
        let until = clients[client].since + UInt64(max(ttl, oracle.model.ttlMin)) * World.second
        oracle.leaseUntil[lease] = max(oracle.leaseUntil[lease] ?? 0, until)
        clients[client].leases.append(lease)
      }
    }
  }

  private func checkRange(
    _ response: Etcdserverpb_RangeResponse, _ client: Int, _ node: MemberNode
  ) throws(Violation) {
    let (from, to, asked) = clients[client].readRange
    let revision = asked == 0 ? response.header.revision : asked
    let rows = response.kvs.map { row in
      StoredKeyValue.encode(
        key: Bytes(row.key), createRevision: row.createRevision, modRevision: row.modRevision,
        version: row.version, value: Bytes(row.value), lease: row.lease)
    }
    try require(
      rows == oracle.model.rows(from: from, to: to, at: revision), .compaction,
      "\(node.id) reads keys \(from)..<\(to) at \(revision) as \(rows)")
    oracle.counts.reads += 1
  }

  // MARK: - Watchers

  /// Never asks for previous values: the first layer checks those.
  func makeWatcher(_ number: Int) -> Watcher {
    let from = draw(0...options.keys - 1)
    return Watcher(
      number: number, from: from, to: draw(from + 1...options.keys), wantsPrevious: false,
      wantsProgress: chance(1, of: 2))
  }

  func act(watcher number: Int) {
    queue.add(.watcher(number), at: now + UInt64(draw(100...1000)) * World.millisecond)
    if let slot = watchers[number].node {
      let node = nodes[slot]
      guard node.pausedUntil <= now, let inbox = node.actors?.store.inbox else { return }
      let stream = watchers[number].stream
      if isHealing, node.membership[id: node.id] == nil {
        inbox.send(.watch([.close(stream)]))
        watchers[number].node = nil
      } else if isHealing || chance(1, of: 3) {
        watchers[number].isBlocked = !isHealing && !watchers[number].isBlocked
        inbox.send(.watch([watchers[number].isBlocked ? .blocked(stream) : .ready(stream)]))
      } else if chance(1, of: 4) {
        inbox.send(.watch([.close(stream)]))
        watchers[number].node = nil
      } else {
        inbox.send(.watch([.progress(stream)]))
      }
      collect(node)
      return
    }
    let node = nodes[draw(0...nodes.count - 1)]
    guard node.actors != nil, node.pausedUntil <= now, node.membership[id: node.id] != nil else {
      return
    }
    watchers[number].node = node.slot
    watchers[number].stream = random.next()
    watchers[number].isBlocked = false
    let watcher = watchers[number]
    let request = WatchCreate(
      key: Model.name(watcher.from), rangeEnd: Model.name(watcher.to),
      startRevision: watcher.next, progressNotify: watcher.wantsProgress, watchID: 1)
    node.actors?.store.inbox.send(
      .watch([.open(watcher.stream), .create(watcher.stream, request)]))
    trace.note(now, "watcher \(number) starts at \(watcher.next) on \(node.id)")
    collect(node)
  }

  func takeWatch(
    _ deliveries: [(stream: UInt64, messages: FramedMessages)], _ node: MemberNode
  ) throws(Violation) {
    for (stream, messages) in deliveries {
      guard
        let number = watchers.firstIndex(where: { $0.node == node.slot && $0.stream == stream })
      else { continue }
      for message in messages {
        guard let response = try? Etcdserverpb_WatchResponse(serializedBytes: message) else {
          throw Violation(.watch, "\(node.id) sends an unreadable watch response")
        }
        try take(response, watcher: number, node)
      }
    }
  }

  private func take(
    _ response: Etcdserverpb_WatchResponse, watcher number: Int, _ node: MemberNode
  ) throws(Violation) {
    let watcher = watchers[number]
    if response.created {
      try require(!response.canceled, .watch, "refused: \(response.cancelReason)")
      if watcher.next == 0 { watchers[number].next = response.header.revision + 1 }
      return
    }
    if response.canceled {
      try require(
        response.compactRevision > watcher.next, .watch,
        "watcher \(number) was cancelled for \(response.compactRevision), next \(watcher.next)")
      node.actors?.store.inbox.send(.watch([.close(watcher.stream)]))
      watchers[number].node = nil
      watchers[number].next = response.compactRevision
      return
    }
    let last = response.events.last?.kv.modRevision ?? response.header.revision
    let due = oracle.model.events(
      from: watcher.from, to: watcher.to, first: watcher.next, last: last)
    let told = response.events.map { event in
      StoredKeyValue.encode(
        key: Bytes(event.kv.key), createRevision: event.kv.createRevision,
        modRevision: event.kv.modRevision, version: event.kv.version, value: Bytes(event.kv.value),
        lease: event.kv.lease)
    }
    try require(
      told == due.map(\.keyValue), .watch,
      "watcher \(number) on \(node.id) got \(response.events.map(\.kv.modRevision)), the model has "
        + "\(due.map(\.revision.main)) in \(watcher.next)...\(last)")
    watchers[number].next = max(watcher.next, last + 1)
    oracle.counts.events += told.count
  }
}
