import Foundation

/// When a log file is put aside, and how many of the old ones stay (`--log-rotation-config-json`).
package struct LogRotation: Sendable, Equatable {
  /// Size at which a new file is begun.
  package var fileBytesMax: Int
  /// Days after which an old file is removed; 0 = never.
  package var daysMax: Int
  /// Old files that are kept; 0 = all.
  package var backupsMax: Int
  /// Old files are named by local time instead of UTC.
  package var usesLocalTime: Bool
  package var compresses: Bool

  private static let defaultMegabytes = 100

  /// Reads the flag's JSON.
  ///
  /// - Throws: ``ConfigurationError`` in etcd's words.
  package init(json text: String) throws(ConfigurationError) {
    let object: Any
    do {
      object = try JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
    } catch {
      throw ConfigurationError(
        "improperly formatted log rotation config: not JSON: \(text.goQuoted)")
    }
    guard let members = object as? [String: Any] else {
      throw ConfigurationError(
        "invalid log rotation config: json: cannot unmarshal a value that is no object into Go "
          + "value of type embed.logRotationConfig")
    }
    let fields = Fields(members)
    let megabytes = try fields.count("maxsize")
    fileBytesMax = (megabytes == 0 ? Self.defaultMegabytes : megabytes) << 20
    daysMax = try fields.count("maxage")
    backupsMax = try fields.count("maxbackups")
    usesLocalTime = try fields.flag("localtime")
    compresses = try fields.flag("compress")
  }

  init(
    fileBytesMax: Int, daysMax: Int = 0, backupsMax: Int = 0, usesLocalTime: Bool = false,
    compresses: Bool = false
  ) {
    self.fileBytesMax = fileBytesMax
    self.daysMax = daysMax
    self.backupsMax = backupsMax
    self.usesLocalTime = usesLocalTime
    self.compresses = compresses
  }

  /// The members of the object; names count without regard to case, as in Go.
  private struct Fields {
    private let members: [String: Any]

    init(_ members: [String: Any]) {
      var lowered: [String: Any] = [:]
      for (name, value) in members.sorted(by: { $0.key < $1.key }) {
        lowered[name.lowercased()] = value
      }
      self.members = lowered
    }

    func count(_ name: String) throws(ConfigurationError) -> Int {
      guard let value = members[name], !(value is NSNull) else { return 0 }
      guard let number = value as? NSNumber, !Self.isBool(number),
        let count = Int(exactly: number.doubleValue), (0...(1 << 40)).contains(count)
      else { throw Self.mismatch(name, "int") }
      return count
    }

    func flag(_ name: String) throws(ConfigurationError) -> Bool {
      guard let value = members[name], !(value is NSNull) else { return false }
      guard let number = value as? NSNumber, Self.isBool(number) else {
        throw Self.mismatch(name, "bool")
      }
      return number.boolValue
    }

    private static func isBool(_ number: NSNumber) -> Bool { number.objCType.pointee == 0x63 }

    private static func mismatch(_ name: String, _ type: String) -> ConfigurationError {
      ConfigurationError(
        "invalid log rotation config: json: cannot unmarshal a value into Go struct field "
          + "logRotationConfig.\(name) of type \(type)")
    }
  }
}
