import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

/// A membership change that a client waits for.
struct MemberChange {
  var change: ConfChange
  /// The member as it was added, for an addition.
  var added: MemberRecord?
}

/// What the gateway remembers of membership changes under way.
struct ReconfigurationTable {
  /// A change that waits for a leader that can take it.
  struct Waiting {
    var id: UInt64
    /// The member that is to be removed and should not lead then; 0 = nobody.
    var steppingDown: MemberID = 0
    /// When the change is offered to whoever leads. Monotonic nanoseconds.
    var deadline: UInt64 = 0
  }

  /// A promotion that only the leader can decide.
  struct Promotion {
    var handle: CallHandle
    var member: MemberID
    var giveUpAt: UInt64
  }

  var links = LinkTimes()
  var waiting: [Waiting] = []
  /// The change that was proposed last, and when.
  var proposed: (id: UInt64, at: UInt64) = (0, 0)
  /// Ids of all changes that were not answered yet.
  var open: [UInt64] = []
  /// Promotions asked of the leader, by the id of the question.
  var asked: [UInt64: Promotion] = [:]
  /// Promotions to be asked of whoever leads next.
  var unasked: [Promotion] = []
}

extension ClientGateway {
  private var rules: ReconfigurationRules {
    ReconfigurationRules(
      isStrict: settings.strictReconfigCheck, local: settings.member,
      membership: storeStatus.membership, links: reconfiguration.links, now: executor.now)
  }

  // MARK: - Calls

  func memberAdd(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_MemberAddRequest(copying: message)
    let urls = try PeerURLList.checked(request.peerUrls)
    try requireRoot(handle)
    try rules.checkAdd(isLearner: request.isLearner)
    let record = MemberRecord(
      id: Identity.memberID(peerURLs: urls, addedAt: unixSeconds()), peerURLs: urls,
      isLearner: request.isLearner)
    submit(
      MemberChange(
        change: ConfChange(
          id: ids.next(), kind: request.isLearner ? .addLearnerNode : .addNode, nodeID: record.id,
          context: MemberContext(record: record).encoded()),
        added: record), handle)
  }

  func memberRemove(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let id = try Etcdserverpb_MemberRemoveRequest(copying: message).id
    try rules.checkRemove(id)
    let change = MemberChange(change: ConfChange(id: ids.next(), kind: .removeNode, nodeID: id))
    if id == softState.leader, let successor {
      // A leader that leaves would take a whole election with it.
      outlets.raft.send(.transferLeader(to: successor))
      submit(change, handle, steppingDown: id)
    } else {
      submit(change, handle)
    }
  }

  /// Who shall lead instead of the present leader: whoever is known to be at work.
  private var successor: MemberID? {
    guard softState.leader == settings.member else { return settings.member }
    return raftStatus.peers
      .filter { $0.id != settings.member && !$0.isLearner && $0.recentActive }
      .max { ($0.match, $0.id) < ($1.match, $1.id) }?.id
  }

  func memberUpdate(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_MemberUpdateRequest(copying: message)
    // etcd takes anything here, and its members stop for good when they apply what is no URL.
    _ = try PeerURLList.checked(request.peerUrls)
    let membership = storeStatus.membership
    let version = membership.clusterVersion.flatMap(Version.init) ?? Version(3, 0)
    if membership[id: request.id]?.isLearner == true, version < Version(3, 6) {
      throw EtcdError(
        .failedPrecondition,
        "apus: the peer URLs of a learner cannot be changed while a member of etcd 3.5 or older is "
          + "in the cluster, which would take it for a voter; promote it first, or add it anew")
    }
    let record = MemberRecord(id: request.id, peerURLs: request.peerUrls)
    submit(
      MemberChange(
        change: ConfChange(
          id: ids.next(), kind: .updateNode, nodeID: request.id,
          context: MemberContext(record: record).encoded())), handle)
  }

  func memberPromote(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let id = try Etcdserverpb_MemberPromoteRequest(copying: message).id
    if softState.leader == settings.member {
      submit(MemberChange(change: try promotion(of: id)), handle)
    } else {
      askLeader(
        ReconfigurationTable.Promotion(
          handle: handle, member: id, giveUpAt: executor.now + settings.requestTimeout))
    }
  }

  /// Checks what only a leader can know.
  private func promotion(of id: MemberID) throws(EtcdError) -> ConfChange {
    do throws(EtcdError) {
      guard let learner = raftStatus.peers.first(where: { $0.id == id }) else {
        throw .memberNotFound
      }
      let own = raftStatus.peers.first { $0.id == settings.member }
      guard ReconfigurationRules.isInSync(learner: learner.match, leader: own?.match ?? 0) else {
        throw .learnerNotReady
      }
      try rules.checkPromote()
    } catch {
      metrics.server.learnerPromoteFailures.series(error.message).increment()
      throw error
    }
    return ConfChange(
      id: ids.next(), kind: .addNode, nodeID: id,
      context: MemberContext(record: MemberRecord(id: id, peerURLs: []), isPromote: true).encoded())
  }

  // MARK: - On the way to the log

  private func submit(_ change: MemberChange, _ handle: CallHandle, steppingDown: MemberID = 0) {
    let id = change.change.id
    // As in etcd only the caller's patience limits these calls.
    waiters.add(
      id, .memberChange(handle, change), bytes: change.change.encodedCount, isWrite: true,
      now: executor.now, deadline: nil)
    reconfiguration.open.append(id)
    let electionTimeout = UInt64(settings.electionTicks) * settings.tickInterval
    reconfiguration.waiting.append(
      ReconfigurationTable.Waiting(
        id: id, steppingDown: steppingDown, deadline: executor.now + 2 * electionTimeout))
    offerChanges(now: executor.now)
  }

  /// Proposes what waits for a leader, if there is one now, one change at a time.
  func offerChanges(now: UInt64) {
    guard !reconfiguration.waiting.isEmpty else { return }
    let waiting = reconfiguration.waiting
    reconfiguration.waiting = []
    for each in waiting {
      guard case .memberChange(_, let change)? = waiters[each.id] else { continue }
      let mustStepDown = each.steppingDown == softState.leader && now < each.deadline
      guard !mustStepDown, takesChanges, !isChangeUnderWay(now: now) else {
        reconfiguration.waiting.append(each)
        continue
      }
      reconfiguration.proposed = (each.id, now)
      outlets.raft.send(.changeConfiguration(id: each.id, payload: change.change.encoded()))
    }
  }

  /// Whether the leader would take a change. While it cannot tell whether another one is in its log,
  /// as at the beginning of its term, it puts nothing in the place of what it is asked for.
  private var takesChanges: Bool {
    guard softState.leader != 0, storeStatus.appliedTerm == raftStatus.term else { return false }
    return softState.leader != settings.member || raftStatus.pendingConfIndex <= raftStatus.applied
  }

  /// Whether this member's last change is on its way; one that was lost holds up others for a while.
  private func isChangeUnderWay(now: UInt64) -> Bool {
    let (id, time) = reconfiguration.proposed
    return waiters[id] != nil && now < time + UInt64(settings.electionTicks) * settings.tickInterval
  }

  /// A change that found no leader has been in no log: it is offered again.
  func isDeferredChange(_ id: UInt64, _ reason: RaftCore.DropReason) -> Bool {
    guard case .memberChange? = waiters[id], reason != .overloaded else { return false }
    reconfiguration.proposed = (0, 0)
    reconfiguration.waiting.append(ReconfigurationTable.Waiting(id: id))
    return true
  }

  func tickReconfiguration(now: UInt64) {
    offerChanges(now: now)
    let unasked = reconfiguration.unasked
    reconfiguration.unasked = []
    for promotion in unasked { askLeader(promotion) }
    // A change may be lost with a leader; its caller's end is noticed here.
    reconfiguration.open.removeAll { id in
      guard case .memberChange(let handle, _)? = waiters[id] else { return true }
      guard handle.call.isCancelled else { return false }
      _ = waiters.take(id)
      return true
    }
  }

  func memberChangeEnded(_ handle: CallHandle, _ change: MemberChange, _ outcome: StoreOutcome) {
    let isPromotion = handle.method == .memberPromote
    offerChanges(now: executor.now)
    if case .failure(let error) = outcome {
      if isPromotion { metrics.server.learnerPromoteFailures.series(error.message).increment() }
      return fail(handle, error)
    }
    if isPromotion { metrics.server.learnerPromoteSuccesses.increment() }
    do {
      try replyChanged(handle, added: change.added, members: listedMembers())
    } catch {
      fail(handle, EtcdError(.internal, "\(error)"))
    }
  }

  private func replyChanged(
    _ handle: CallHandle, added: MemberRecord?, members: [Etcdserverpb_Member]
  ) throws {
    switch handle.method {
    case .memberAdd:
      try reply(
        handle,
        Etcdserverpb_MemberAddResponse.with {
          $0.header = clusterHeader()
          if let added { $0.member = Etcdserverpb_Member(added) }
          $0.members = members
        })
    case .memberRemove:
      try reply(
        handle,
        Etcdserverpb_MemberRemoveResponse.with {
          $0.header = clusterHeader()
          $0.members = members
        })
    case .memberUpdate:
      try reply(
        handle,
        Etcdserverpb_MemberUpdateResponse.with {
          $0.header = clusterHeader()
          $0.members = members
        })
    default:
      try reply(
        handle,
        Etcdserverpb_MemberPromoteResponse.with {
          $0.header = clusterHeader()
          $0.members = members
        })
    }
  }

  func listedMembers() -> [Etcdserverpb_Member] {
    storeStatus.membership.members.map { Etcdserverpb_Member($0) }
  }

  /// Answers about the cluster speak of no revision.
  func clusterHeader() -> Etcdserverpb_ResponseHeader {
    var header = header()
    header.revision = 0
    return header
  }

  // MARK: - Promotions between members

  private func askLeader(_ promotion: ReconfigurationTable.Promotion) {
    guard !promotion.handle.call.isCancelled else { return }
    guard executor.now < promotion.giveUpAt else { return fail(promotion.handle, .timeout) }
    if let deadline = promotion.handle.call.deadline, deadline <= executor.now {
      return fail(promotion.handle, .deadlineExceeded)
    }
    let leader = softState.leader
    guard leader != 0 else { return reconfiguration.unasked.append(promotion) }
    guard leader != settings.member else {
      do throws(EtcdError) {
        return submit(
          MemberChange(change: try self.promotion(of: promotion.member)), promotion.handle)
      } catch {
        return fail(promotion.handle, error)
      }
    }
    let id = ids.next()
    reconfiguration.asked[id] = promotion
    // The caller may do this, as was asked here; a leader of etcd may ask again.
    let call = promotion.handle.call
    let token = call.metadata("token") ?? call.metadata("authorization")
    outlets.postToPeer(
      id, leader, "/members/promote/\(promotion.member)", [],
      token.map { [HTTPField("Authorization", $0)] } ?? [])
  }

  /// Takes a leader's answer; false if the id is of another question.
  func promotionAnswered(_ id: UInt64, _ status: Int?, _ body: Bytes) -> Bool {
    guard let promotion = reconfiguration.asked.removeValue(forKey: id) else { return false }
    let handle = promotion.handle
    let text = String(decoding: body, as: UTF8.self)
    switch status {
    case 200:
      let told = ExistingCluster.members(in: body) ?? storeStatus.membership.members
      do {
        try replyChanged(handle, added: nil, members: told.map { Etcdserverpb_Member($0) })
      } catch {
        fail(handle, EtcdError(.internal, "\(error)"))
      }
    case 404: fail(handle, .memberNotFound)
    case 412 where text.contains(EtcdError.learnerNotReady.message): fail(handle, .learnerNotReady)
    case 412 where text.contains(MembershipError.notLearner.description):
      fail(handle, .memberNotLearner)
    default: reconfiguration.unasked.append(promotion)
    }
    return true
  }

  /// Another member's client wants a learner promoted.
  func promoteForPeer(_ request: UInt64, _ member: MemberID) {
    let outlets = outlets
    guard softState.leader == settings.member else {
      return outlets.answerForwarded(request, .failure(.notLeader))
    }
    do throws(EtcdError) {
      let change = try promotion(of: member)
      let now = executor.now
      // The other member asks again.
      guard takesChanges, !isChangeUnderWay(now: now) else { throw .timeout }
      reconfiguration.proposed = (change.id, now)
      waiters.add(
        change.id, .own { outlets.answerForwarded(request, $0) }, isWrite: true, now: now,
        deadline: now + settings.requestTimeout)
      outlets.raft.send(.changeConfiguration(id: change.id, payload: change.encoded()))
    } catch {
      outlets.answerForwarded(request, .failure(error))
    }
  }
}

extension Etcdserverpb_Member {
  init(_ record: MemberRecord) {
    self.init()
    id = record.id
    name = record.name
    peerUrls = record.peerURLs
    clientUrls = record.clientURLs
    isLearner = record.isLearner
  }
}
