/// The feature gates of etcd 3.7 and which of them are on.
public struct FeatureGates: Sendable, Equatable {
  public enum Gate: String, Sendable, CaseIterable {
    case stopGRPCServiceOnDefrag = "StopGRPCServiceOnDefrag"
    case initialCorruptCheck = "InitialCorruptCheck"
    case compactHashCheck = "CompactHashCheck"
    case txnModeWriteWithSharedBuffer = "TxnModeWriteWithSharedBuffer"
    case leaseCheckpoint = "LeaseCheckpoint"
    case leaseCheckpointPersist = "LeaseCheckpointPersist"
    case setMemberLocalAddr = "SetMemberLocalAddr"
    case fastLeaseKeepAlive = "FastLeaseKeepAlive"
    case priorityRequest = "PriorityRequest"
    case allAlpha = "AllAlpha"
    case allBeta = "AllBeta"

    public var isBeta: Bool {
      switch self {
      case .txnModeWriteWithSharedBuffer, .fastLeaseKeepAlive, .allBeta: true
      default: false
      }
    }
    /// As the label `stage` of the metric `etcd_server_feature_enabled` has it.
    public var stage: String { isBeta ? "BETA" : "ALPHA" }

    var isGroup: Bool { self == .allAlpha || self == .allBeta }
    var isOnByDefault: Bool { isBeta && !isGroup }

    /// `.accepted` gates choose between two ways to the same result inside etcd.
    var support: FlagSpec.Support {
      switch self {
      // Checkpoints that are in the log are in the store's file, too: with or without the gate.
      case .txnModeWriteWithSharedBuffer, .fastLeaseKeepAlive, .priorityRequest,
        .leaseCheckpointPersist, .allAlpha, .allBeta:
        .accepted
      case .initialCorruptCheck, .compactHashCheck, .leaseCheckpoint: .supported
      case .stopGRPCServiceOnDefrag, .setMemberLocalAddr: .unfinished
      }
    }
  }

  public struct Assignment: Sendable, Equatable {
    public let gate: Gate
    public let enabled: Bool
  }

  private var enabled: Set<Gate>

  /// The defaults, with `assignments` applied: the last one per gate wins, and a gate's own
  /// assignment wins over its group's (`AllAlpha`, `AllBeta`).
  public init(_ assignments: [Assignment] = []) {
    enabled = Set(Gate.allCases.filter(\.isOnByDefault))
    for assignment in assignments where assignment.gate.isGroup {
      set(assignment)
      for gate in Gate.allCases
      where !gate.isGroup && gate.isBeta == (assignment.gate == .allBeta) {
        set(Assignment(gate: gate, enabled: assignment.enabled))
      }
    }
    for assignment in assignments where !assignment.gate.isGroup { set(assignment) }
  }

  private mutating func set(_ assignment: Assignment) {
    if assignment.enabled {
      enabled.insert(assignment.gate)
    } else {
      enabled.remove(assignment.gate)
    }
  }

  public func isEnabled(_ gate: Gate) -> Bool { enabled.contains(gate) }

  /// The first gate that is on and has nothing behind it yet.
  var unfinished: Gate? {
    Gate.allCases.first { isEnabled($0) && $0.support == .unfinished }
  }

  /// Parses `Name=bool,...`.
  public static func parse(_ text: String) throws(FlagValueError) -> [Assignment] {
    var assignments: [Assignment] = []
    for part in text.split(separator: ",") {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = pair[0].trimmingBlanks
      guard pair.count == 2 else { throw FlagValueError("missing bool value for \(name)") }
      let word = pair[1].trimmingBlanks
      guard let value = GoNumber.bool(word) else {
        let cause = "strconv.ParseBool: parsing \(word.goQuoted): invalid syntax"
        throw FlagValueError("invalid value of \(name)=\(word), err: \(cause)")
      }
      guard let gate = Gate(rawValue: name) else {
        throw FlagValueError("unrecognized feature gate: \(name)")
      }
      assignments.append(Assignment(gate: gate, enabled: value))
    }
    return assignments
  }
}
