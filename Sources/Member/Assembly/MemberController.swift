import Actors
import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import StoreActor
import SwiftProtobuf

/// What the controller hears.
enum ControllerInput: Sendable {
  case tick
  case softState(RaftCore.SoftState)
  case membership(Membership)
  /// The body of a member's `/version`, or nil if it could not be asked; in answer to that round.
  case version(MemberID, String?, round: UInt64)
  case published(Bool)
  case versionSet(Bool)
}

/// The actor that makes this member part of its cluster: publishes its name and addresses, and, on the
/// leader, sees to it that the cluster's version is the lowest of its members'.
actor MemberController {
  struct Outlets: Sendable {
    var propose:
      @Sendable (InternalRequestEnvelope.Kind, Bytes, @escaping @Sendable (Bool) -> Void) -> Void
    var proposeLegacy: @Sendable (LegacyRequest, @escaping @Sendable (Bool) -> Void) -> Void
    var askVersion: @Sendable (MemberRecord, _ round: UInt64) -> Void
    /// Whether a member of etcd 3.5.0 to 3.5.2 is there, which counts tokens in its own way.
    var earlyTokens: @Sendable (Bool) -> Void
    /// This member has joined and may serve.
    var joined: @Sendable () -> Void
  }

  /// The leader asks all members for their versions this often.
  private static let versionTicks = 40

  private nonisolated let executor: any ActorExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  nonisolated let inbox: Inbox<ControllerInput>
  private let member: MemberID
  private let name: String
  private let clientURLs: [String]
  private let outlets: Outlets
  private let log: EtcdLogger
  private var membership: Membership
  private var softState = RaftCore.SoftState(role: .follower, leader: 0, term: 0)
  private var versions: [MemberID: Version] = [:]
  /// A member gives the same answer for as long as it runs; it is taken apart once.
  private var lastAnswers: [MemberID: (body: String, version: Version)] = [:]
  private var answers = 0
  /// Counts the rounds of asking: answers to an older one say nothing.
  private var round: UInt64 = 0
  private var ticks = 0
  private var isPublishing = false
  private var isPublished = false
  private var isSettingVersion = false

  init(
    member: MemberID, name: String, clientURLs: [String], membership: Membership,
    inbox: Inbox<ControllerInput>, executor: any ActorExecutor, outlets: Outlets, log: EtcdLogger
  ) {
    self.member = member
    self.name = name
    self.clientURLs = clientURLs
    self.membership = membership
    self.inbox = inbox
    self.executor = executor
    self.outlets = outlets
    self.log = log
  }

  nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { controller in
        for input in batch { controller.handle(input) }
      }
    }
  }

  private func handle(_ input: ControllerInput) {
    switch input {
    case .tick: tick()
    case .softState(let state):
      let led = softState.role == .leader
      softState = state
      if state.role == .leader, !led { askVersions() }
      if state.leader != 0 { publish() }
    case .membership(let new):
      membership = new
      if mayHaveEarlyTokens, round == 0 { askVersions() }
      if let version = new.clusterVersion, version != loggedVersion {
        loggedVersion = version
        log.info("set cluster version", ("cluster-version", version))
      }
      tellDowngrade(new.downgrade)
    case .version(let id, let body, let number):
      if number == round { answered(id, body) }
    case .published(let succeeded): published(succeeded)
    case .versionSet: isSettingVersion = false
    }
  }

  private var loggedVersion = ""
  private var loggedDowngrade: DowngradeInfo?

  private func tellDowngrade(_ downgrade: DowngradeInfo?) {
    guard let downgrade, downgrade != loggedDowngrade else { return }
    loggedDowngrade = downgrade
    if downgrade.isEnabled {
      log.warn(
        "the cluster is told to go back to an older release, which cannot take up the data of this "
          + "member: put a member of etcd in its place before, or cancel the downgrade",
        ("target-version", downgrade.targetVersion))
    } else {
      log.info("the downgrade of the cluster has ended or was cancelled")
    }
  }

  private func tick() {
    ticks += 1
    if !isPublished, ticks % 5 == 0 { publish() }
    let asks = softState.role == .leader || !isPublished || mayHaveEarlyTokens
    if ticks % Self.versionTicks == 0, asks { askVersions() }
  }

  // MARK: - Tokens

  /// Which release of 3.5 the others are matters to every member, not to the leader alone.
  private var mayHaveEarlyTokens: Bool {
    membership.clusterVersion.flatMap(Version.init) == Version(3, 5)
  }

  private var toldEarlyTokens = false

  private func tellEarlyTokens() {
    let areThere = versions.values.contains {
      $0.major == 3 && $0.minor == 5 && $0.patch < 3
    }
    guard areThere != toldEarlyTokens, areThere || isEveryoneAsked else { return }
    toldEarlyTokens = areThere
    outlets.earlyTokens(areThere)
  }

  // MARK: - Publishing

  /// Tells the cluster this member's name and addresses, which may have changed since its last start.
  private func publish() {
    guard !isPublished, !isPublishing, softState.leader != 0,
      membership[id: member] != nil
    else { return }
    // Beside an etcd 3.4 the older form is the only one that everybody understands.
    let others = membership.members.filter { $0.id != member }
    guard others.isEmpty || isEveryoneAsked || membership.clusterVersion != nil else {
      if round == 0 { askVersions() }
      return
    }
    isPublishing = true
    let done: @Sendable (Bool) -> Void = { [inbox] in inbox.send(.published($0)) }
    if needsLegacyForm {
      let urls = JSONText.array(clientURLs)
      outlets.proposeLegacy(
        .memberAttributes(
          id: 0, member: member,
          attributes: "{\"name\":\(JSONText.string(name)),\"clientURLs\":\(urls)}"), done)
    } else {
      let request = Membershippb_ClusterMemberAttrSetRequest.with {
        $0.memberID = member
        $0.memberAttributes.name = name
        $0.memberAttributes.clientUrls = clientURLs
      }
      guard let bytes: Bytes = try? request.serializedBytes() else { return }
      outlets.propose(.clusterMemberAttributesSet, bytes, done)
    }
  }

  private var needsLegacyForm: Bool {
    let cluster = membership.clusterVersion.flatMap(Version.init)
    let known = versions.values + (cluster.map { [$0] } ?? [])
    // A cluster version of 3.0 says that not all members could be asked, nothing about their age.
    return known.contains { $0 < Version(3, 5) && $0 > Version(3, 0) }
  }

  private func published(_ succeeded: Bool) {
    isPublishing = false
    guard succeeded else {
      log.warn("failed to publish local member to cluster through raft; trying again")
      return
    }
    isPublished = true
    let urls = clientURLs.joined(separator: " ")
    log.info(
      "published local member to cluster through raft", ("local-member-id", member.hex),
      ("local-member-attributes", "{Name:\(name) ClientURLs:[\(urls)]}"))
    outlets.joined()
  }

  // MARK: - Cluster version

  private var isEveryoneAsked: Bool { round > 0 && answers >= membership.members.count - 1 }

  private func askVersions() {
    round += 1
    answers = 0
    versions = [:]
    versions[member] = Version(ProductVersion.etcd)
    for record in membership.members where record.id != member {
      outlets.askVersion(record, round)
    }
    decideVersion()
  }

  private func answered(_ id: MemberID, _ body: String?) {
    answers += 1
    if let body, let version = version(of: id, in: body) { versions[id] = version }
    publish()
    decideVersion()
    tellEarlyTokens()
  }

  private func version(of id: MemberID, in body: String) -> Version? {
    if let last = lastAnswers[id], last.body == body { return last.version }
    guard let version = Version.server(in: body) else { return nil }
    lastAnswers[id] = (body, version)
    return version
  }

  /// None yet: the lowest of all, or 3.0.0 if somebody cannot be asked. Later it is only raised, and
  /// only when everybody has answered. While a downgrade is under way it waits for the first member of
  /// the older release, and then is lowered to that.
  private func decideVersion() {
    guard softState.role == .leader, !isSettingVersion,
      isEveryoneAsked, !membership.members.isEmpty
    else { return }
    let all = membership.members.compactMap { versions[$0.id] }
    let isComplete = all.count == membership.members.count
    guard let lowest = all.min() else { return }
    let current = membership.clusterVersion.flatMap(Version.init)
    let target = isComplete ? Version(lowest.major, lowest.minor) : Version(3, 0)
    if let current {
      guard isComplete,
        target.isDue(after: current, downgrade: membership.downgrade)
      else { return }
      log.info(
        "updating cluster version", ("from", current.description), ("to", target.description))
    } else {
      log.info("setting up initial cluster version", ("cluster-version", target.description))
    }
    isSettingVersion = true
    let done: @Sendable (Bool) -> Void = { [inbox] in inbox.send(.versionSet($0)) }
    if needsLegacyForm {
      outlets.proposeLegacy(.clusterVersion(id: 0, version: target.description), done)
    } else {
      let request = Membershippb_ClusterVersionSetRequest.with { $0.ver = target.description }
      guard let bytes: Bytes = try? request.serializedBytes() else { return }
      outlets.propose(.clusterVersionSet, bytes, done)
    }
  }
}

/// `X.Y.Z`, compared by number.
struct Version: Comparable, CustomStringConvertible {
  var major: Int
  var minor: Int
  var patch = 0

  init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  init?(_ text: String) {
    let parts = text.split(separator: ".").prefix(3).map { part in
      Int(part.prefix { $0.isNumber })
    }
    guard parts.count >= 2, let major = parts[0], let minor = parts[1] else { return nil }
    self.init(major, minor)
    patch = parts.count > 2 ? parts[2] ?? 0 : 0
  }

  /// The server's version in the body of `/version`.
  static func server(in body: String) -> Version? {
    struct Answer: Decodable { var etcdserver: String }
    let answer = try? JSONDecoder().decode(Answer.self, from: Data(body.utf8))
    return answer.flatMap { Version($0.etcdserver) }
  }

  /// Whether the lowest version of all members takes the place of the cluster's.
  func isDue(after current: Version, downgrade: DowngradeInfo?) -> Bool {
    guard let downgrade, downgrade.isEnabled else { return self > current }
    return isOneMinorBelow(current) && Version(downgrade.targetVersion) == self
  }

  func isOneMinorBelow(_ other: Version) -> Bool {
    major == other.major && minor == other.minor - 1
  }

  static func < (left: Version, right: Version) -> Bool {
    (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
  }

  var description: String { "\(major).\(minor).\(patch)" }
}
