import Base
import FoundationEssentials
import StoreActor

/// What a member says about its store.
struct MemberHash: Equatable, Sendable {
  var hash: KeyValueHash
  /// The member's newest revision when it answered.
  var current: Int64
}

/// A member's answer to the question for its hash at a revision.
enum PeerHashAnswer: Equatable, Sendable {
  case hash(MemberHash)
  /// It has not come to this revision yet.
  case behind
  /// It is past it.
  case compacted
  case unreachable(String)
}

/// Compares what members say about the same revision: who holds other data than the rest?
struct HashComparison: Sendable {
  enum Verdict: Equatable, Sendable {
    /// As far as could be compared; the number of other members that were.
    case equal(compared: Int)
    /// Members whose data is not the majority's, in order of id; member 0 if there is no majority.
    case corrupt([MemberID])
  }

  /// Members of the cluster, whether they answered or not.
  let memberCount: Int
  let own: (id: MemberID, hash: KeyValueHash)
  private(set) var others: [(id: MemberID, hash: KeyValueHash)] = []

  init(memberCount: Int, own: MemberID, hash: KeyValueHash) {
    self.memberCount = memberCount
    self.own = (own, hash)
  }

  mutating func add(_ id: MemberID, _ hash: KeyValueHash) { others.append((id, hash)) }

  /// Only histories that were compacted alike can be compared.
  private var comparable: [(id: MemberID, hash: KeyValueHash)] {
    others.filter { $0.hash.compactRevision == own.hash.compactRevision }
  }

  /// Whether every other member was compared.
  var isComplete: Bool { comparable.count == memberCount - 1 }

  var verdict: Verdict {
    let compared = comparable
    guard compared.contains(where: { $0.hash.hash != own.hash.hash }) else {
      return .equal(compared: compared.count)
    }
    let all = compared + [own]
    let majority = all.first { candidate in
      all.count { $0.hash.hash == candidate.hash.hash } > memberCount / 2
    }
    guard let majority else { return .corrupt([0]) }
    return .corrupt(all.filter { $0.hash.hash != majority.hash.hash }.map(\.id).sorted())
  }
}

/// The periodic comparison of a leader: its own hash before and after a proof of leadership, and those
/// of the others in between.
struct LeaderComparison: Sendable {
  private var comparison: HashComparison
  private let first: KeyValueHash
  private var answers: [(id: MemberID, MemberHash)] = []

  init(memberCount: Int, own: MemberID, first: KeyValueHash) {
    comparison = HashComparison(memberCount: memberCount, own: own, hash: first)
    self.first = first
  }

  mutating func add(_ id: MemberID, _ answer: MemberHash) {
    answers.append((id, answer))
    comparison.add(id, answer.hash)
  }

  /// - Parameter second: the leader's own, taken after all answers had come in.
  func verdict(second: MemberHash) -> HashComparison.Verdict {
    var suspects: [MemberID] = []
    if second.hash.revision == first.revision,
      second.hash.compactRevision == first.compactRevision, second.hash.hash != first.hash
    {
      suspects.append(comparison.own.id)
    }
    // Nobody knows more than a leader that has just proved itself.
    for (id, answer) in answers
    where answer.current > second.current
      || answer.hash.compactRevision > second.hash.compactRevision
    {
      suspects.append(id)
    }
    switch comparison.verdict {
    case .equal(let compared):
      return suspects.isEmpty ? .equal(compared: compared) : .corrupt(suspects.sorted())
    case .corrupt(let minority):
      return .corrupt(Set(minority + suspects).sorted())
    }
  }
}
