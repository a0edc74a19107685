import Base

extension RaftCore {
  /// Marks the election that a leader asked for; peers must not ignore it for the lease.
  static let transferContext: Bytes = Array("CampaignTransfer".utf8)

  /// Handles one message from a peer. Malformed, misaddressed and local-only ones are ignored.
  public mutating func step(_ message: Message) {
    guard isAcceptable(message) else { return }
    switch message.kind {
    case .proposal: onProposal(message)
    case .readIndex: onReadIndex(message)
    case .hup, .beat, .unreachable, .snapshotStatus, .checkQuorum, .storageAppend,
      .storageAppendResponse, .storageApply, .storageApplyResponse, .forgetLeader:
      break
    default:
      if passesTermRules(message) { dispatch(message) }
    }
  }

  private func isAcceptable(_ message: Message) -> Bool {
    guard message.to == id, message.from != 0 else { return false }
    switch message.kind {
    case .appendResponse, .voteResponse, .heartbeatResponse, .readIndexResponse, .preVoteResponse:
      return message.term > 0 && message.from != id && memberSlot(message.from) != nil
    case .proposal, .readIndex:
      return message.from != id
    case .transferLeader:
      return message.term > 0
    default:
      return message.term > 0 && message.from != id
    }
  }

  /// Brings the own term in line with the message's. False: the message is done with.
  private mutating func passesTermRules(_ message: Message) -> Bool {
    if message.term > term { return passesHigherTerm(message) }
    guard message.term < term else { return true }
    switch message.kind {
    case .append, .heartbeat:
      // Tells a leader of an older term to step down; otherwise a member that raised its term while
      // cut off could never come back.
      send(Message(kind: .appendResponse, to: message.from, term: term))
    case .preVote:
      send(Message(kind: .preVoteResponse, to: message.from, term: term, reject: true))
    case .vote:
      // Lets the candidate catch up with the term at once. Two members that lack votes of each other
      // and raise their terms in turn might otherwise never stand in the same one.
      send(Message(kind: .voteResponse, to: message.from, term: term, reject: true))
    default:
      break
    }
    return false
  }

  private mutating func passesHigherTerm(_ message: Message) -> Bool {
    switch message.kind {
    case .vote, .preVote:
      let isForced = message.context == RaftCore.transferContext
      let hearsLeader = leader != 0 && electionElapsed < configuration.electionTicks
      if !isForced && hearsLeader { return false }
      if message.kind == .vote { becomeFollower(term: message.term, leader: 0) }
    case .preVoteResponse where !message.reject:
      break
    case .append, .heartbeat, .snapshot:
      becomeFollower(term: message.term, leader: message.from)
    default:
      becomeFollower(term: message.term, leader: 0)
    }
    return true
  }

  private mutating func dispatch(_ message: Message) {
    switch message.kind {
    case .vote, .preVote: onVoteRequest(message)
    case .voteResponse, .preVoteResponse: onVoteResponse(message)
    case .append, .heartbeat, .snapshot: onLeaderMessage(message)
    case .appendResponse: if role == .leader { onAppendResponse(message) }
    case .heartbeatResponse: if role == .leader { onHeartbeatResponse(message) }
    case .readIndexResponse: onReadIndexResponse(message)
    case .transferLeader: transferLeader(to: message.from)
    case .timeoutNow: onTimeoutNow()
    default: break
    }
  }
}
