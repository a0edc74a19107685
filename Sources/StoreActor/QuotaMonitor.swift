public import Actors
public import Base
import EtcdAPI

/// What the quota monitor hears.
public enum QuotaInput: Sendable {
  /// A request did not fit, here or when it was applied. With the state of this member's alarm then,
  /// which operators may clear at any time.
  case exceeded(alarmIsRaised: Bool)
  /// The disk has no room for what was applied.
  case diskFull(alarmIsRaised: Bool, reason: String)
  /// The alarm's proposal was applied (true) or failed.
  case settled(Bool)
  case size(bytes: Int64)
}

/// The actor that watches this member's share of disk space: raises the NOSPACE alarm once, however
/// many requests run into the quota, and warns before it comes to that.
public actor QuotaMonitor {
  public struct Outlets: Sendable {
    /// Puts an encoded AlarmRequest into the log; the outcome comes back as `settled`.
    public var propose: @Sendable (Bytes) -> Void
    /// Everybody who was refused can be told now.
    public var settled: @Sendable () -> Void
    public var warn: @Sendable (_ message: String, _ size: Int64, _ quota: Int64) -> Void

    public init(
      propose: @escaping @Sendable (Bytes) -> Void, settled: @escaping @Sendable () -> Void,
      warn: @escaping @Sendable (String, Int64, Int64) -> Void
    ) {
      self.propose = propose
      self.settled = settled
      self.warn = warn
    }
  }

  private nonisolated let executor: any ActorExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  public nonisolated let inbox: Inbox<QuotaInput>
  private let member: MemberID
  private let quota: Int64?
  private let outlets: Outlets
  private var size: Int64 = 0
  private var isProposing = false
  private var hasWarned = false

  public init(
    member: MemberID, quota: Int64?, inbox: Inbox<QuotaInput>, executor: any ActorExecutor,
    outlets: Outlets
  ) {
    self.inbox = inbox
    self.member = member
    self.quota = quota
    self.executor = executor
    self.outlets = outlets
  }

  public nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { monitor in
        for input in batch { monitor.handle(input) }
      }
    }
  }

  private func handle(_ input: QuotaInput) {
    switch input {
    case .exceeded(let alarmIsRaised):
      guard !alarmIsRaised else { return outlets.settled() }
      raise("message exceeded backend quota; raising alarm")
    case .diskFull(let alarmIsRaised, let reason):
      guard !alarmIsRaised else { return outlets.settled() }
      raise(
        "the store has no room on its disk; raising alarm NOSPACE. What was acknowledged is in the log; "
          + "reads go on. Make room, then clear the alarm (alarm disarm): \(reason)")
    case .settled:
      isProposing = false
      outlets.settled()
    case .size(let bytes):
      size = bytes
      warnEarly()
    }
  }

  private func raise(_ message: String) {
    guard !isProposing else { return }
    isProposing = true
    outlets.warn(message, size, quota ?? 0)
    var request = ProtobufWriter()
    request.field(1, UInt64(Etcdserverpb_AlarmRequest.AlarmAction.activate.rawValue))
    request.field(2, member)
    request.field(3, UInt64(Etcdserverpb_AlarmType.nospace.rawValue))
    outlets.propose(request.bytes)
  }

  /// Once when nine tenths are used, and again only after it has fallen below eight.
  private func warnEarly() {
    guard let quota, quota > 0 else { return }
    if size >= quota / 10 * 9 {
      if !hasWarned {
        outlets.warn("90% of the backend quota is used; compact and defragment", size, quota)
      }
      hasWarned = true
    } else if size < quota / 10 * 8 {
      hasWarned = false
    }
  }
}
