public import Base
public import EtcdAPI
import SwiftProtobuf

/// The alarms in force, fed by the log and equal on every member.
public struct AlarmSet: Sendable {
  public struct Alarm: Hashable, Comparable, Sendable {
    public let member: MemberID
    public let kind: Etcdserverpb_AlarmType

    public init(member: MemberID, kind: Etcdserverpb_AlarmType) {
      self.member = member
      self.kind = kind
    }

    public static func < (left: Alarm, right: Alarm) -> Bool {
      left.member != right.member
        ? left.member < right.member : left.kind.rawValue < right.kind.rawValue
    }

    /// The key under which the alarm is stored: an encoded AlarmMember.
    public var encoded: Bytes {
      var writer = ProtobufWriter()
      writer.field(1, member)
      writer.field(2, UInt64(kind.rawValue))
      return writer.bytes
    }

    public init(decoding bytes: Bytes) throws {
      let message = try Etcdserverpb_AlarmMember(serializedBytes: bytes)
      self.init(member: message.memberID, kind: message.alarm)
    }
  }

  /// Ascending.
  public private(set) var alarms: [Alarm] = []

  public init() {}

  public init(_ alarms: [Alarm]) { self.alarms = alarms.sorted() }

  public func list(_ kind: Etcdserverpb_AlarmType) -> [Alarm] {
    kind == .none ? alarms : alarms.filter { $0.kind == kind }
  }

  public func contains(_ kind: Etcdserverpb_AlarmType) -> Bool {
    alarms.contains { $0.kind == kind }
  }

  /// - Returns: false if the alarm was raised already.
  public mutating func raise(_ alarm: Alarm) -> Bool {
    guard !alarms.contains(alarm) else { return false }
    alarms.append(alarm)
    alarms.sort()
    return true
  }

  /// - Returns: false if there was no such alarm.
  public mutating func clear(_ alarm: Alarm) -> Bool {
    guard let position = alarms.firstIndex(of: alarm) else { return false }
    alarms.remove(at: position)
    return true
  }
}

extension [AlarmSet.Alarm] {
  /// Whether `member` has told that its space is used up.
  public func hasNoSpace(of member: MemberID) -> Bool {
    contains { $0.member == member && $0.kind == .nospace }
  }
}
