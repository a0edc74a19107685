import FoundationEssentials

/// When a log file is put aside, and how many of the old ones stay (`--log-rotation-config-json`).
public struct LogRotation: Sendable, Equatable {
  /// Size at which a new file is begun.
  public var fileBytesMax: Int
  /// Days after which an old file is removed; 0 = never.
  public var daysMax: Int
  /// Old files that are kept; 0 = all.
  public var backupsMax: Int
  /// Old files are named by local time instead of UTC.
  public var usesLocalTime: Bool
  public var compresses: Bool

  private static let defaultMegabytes = 100

  /// Reads the flag's JSON.
  ///
  /// - Throws: ``ConfigurationError`` in etcd's words.
  public init(json text: String) throws(ConfigurationError) {
    let members: [String: Value]
    do {
      members = try JSONDecoder().decode([String: Value].self, from: Data(text.utf8))
    } catch DecodingError.typeMismatch, DecodingError.valueNotFound {
      throw ConfigurationError(
        "invalid log rotation config: json: cannot unmarshal a value that is no object into Go "
          + "value of type embed.logRotationConfig")
    } catch {
      throw ConfigurationError(
        "improperly formatted log rotation config: not JSON: \(text.goQuoted)")
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

  /// What the object may hold.
  private enum Value: Decodable {
    case null
    case bool(Bool)
    case count(Int)
    case other

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if container.decodeNil() {
        self = .null
      } else if let bool = try? container.decode(Bool.self) {
        self = .bool(bool)
      } else {
        self = (try? container.decode(Int.self)).map(Value.count) ?? .other
      }
    }
  }

  /// The members of the object; names count without regard to case, as in Go.
  private struct Fields {
    private let members: [String: Value]

    init(_ members: [String: Value]) {
      var lowered: [String: Value] = [:]
      for (name, value) in members.sorted(by: { $0.key < $1.key }) {
        lowered[name.lowercased()] = value
      }
      self.members = lowered
    }

    func count(_ name: String) throws(ConfigurationError) -> Int {
      switch members[name] ?? .null {
      case .null: return 0
      case .count(let count) where (0...(1 << 40)).contains(count): return count
      default: throw Self.mismatch(name, "int")
      }
    }

    func flag(_ name: String) throws(ConfigurationError) -> Bool {
      switch members[name] ?? .null {
      case .null: return false
      case .bool(let flag): return flag
      default: throw Self.mismatch(name, "bool")
      }
    }

    private static func mismatch(_ name: String, _ type: String) -> ConfigurationError {
      ConfigurationError(
        "invalid log rotation config: json: cannot unmarshal a value into Go struct field "
          + "logRotationConfig.\(name) of type \(type)")
    }
  }
}
