import Base
import RaftActor
import StoreActor
import TLS

/// Compares a restarted member's data with its peers' before it takes part again
/// (feature gate `InitialCorruptCheck`).
struct InitialCorruptCheck {
  let member: MemberID
  /// The member's own hash at its newest revision.
  let hash: KeyValueHash
  let log: EtcdLogger
  let dialing: TLSContextSource

  /// Blocks for the answers. Peers that do not answer, or hold another part of history, are passed
  /// over.
  /// - Throws: `StorageError` if a peer holds other data.
  func run(peers: [PeerMember], timeoutMilliseconds: Int) throws {
    log.info("starting initial corruption check", ("local-member-id", member.hex))
    let question = Bytes("{\"revision\":\(hash.revision)}".utf8)
    var asked: [MemberID] = []
    var pages: [PeerPages.Page] = []
    for peer in peers where peer.id != member {
      guard let text = peer.urls.first, let url = try? EtcdURL(text) else { continue }
      asked.append(peer.id)
      pages.append(PeerPages.Page(url: url, target: "/members/hashkv", body: question))
    }
    let answers = try PeerPages.get(
      pages, dialing: dialing, timeoutMilliseconds: timeoutMilliseconds
    ).map { answer in
      answer.map { PeerHashAnswer(status: $0.status, body: $0.body) } ?? .unreachable("no answer")
    }
    let differing = zip(asked, answers).filter { differs($1, from: $0) }
    guard differing.isEmpty else {
      let error = "\(member.hex) found data inconsistency with peers"
      log.error("checkInitialHashKV failed", ("error", error))
      throw StorageError(
        "\(error) (\(differing.map(\.0.hex).joined(separator: ", "))). The data of one of them is "
          + "damaged: compare with a third member, and replace the one that stands alone")
    }
    log.info("initial corruption checking passed; no corruption", ("local-member-id", member.hex))
  }

  private func differs(_ answer: PeerHashAnswer, from peer: MemberID) -> Bool {
    let name = ("remote-peer-id", peer.hex)
    switch answer {
    case .hash(let theirs): return differs(theirs.hash, from: name)
    case .behind: log.warn("cannot fetch hash from slow remote peer", name)
    case .compacted:
      log.warn("cannot fetch hash from remote peer; local member is behind", name)
    case .unreachable(let reason): log.warn("failed hash kv request", name, ("error", reason))
    }
    return false
  }

  private func differs(_ theirs: KeyValueHash, from name: (String, String)) -> Bool {
    guard theirs.hash != hash.hash else { return false }
    let isComparable = theirs.compactRevision == hash.compactRevision
    log.warn(
      isComparable
        ? "found different hash values from remote peer"
        : "found different compact revision values from remote peer",
      name, ("local-member-revision", hash.revision), ("local-member-hash", hash.hash),
      ("local-member-compact-revision", hash.compactRevision),
      ("remote-peer-hash", theirs.hash), ("remote-peer-compact-revision", theirs.compactRevision))
    return isComparable
  }
}
