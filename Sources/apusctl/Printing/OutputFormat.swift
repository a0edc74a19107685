// The forms of output.

enum OutputFormat: String, Sendable {
  case simple, json, fields, table
  case protobuf
}

/// Bytes under construction: keys and values are printed as they are.
struct TextBuffer {
  private(set) var bytes: [UInt8] = []

  mutating func line(_ text: String) {
    bytes += Array(text.utf8)
    bytes.append(10)
  }

  mutating func line(_ raw: some Sequence<UInt8>) {
    bytes += raw
    bytes.append(10)
  }
}

extension [UInt8] {
  init(line text: String) {
    self = RawText.bytes(text) + [10]
  }
}

/// Numbers and bytes as etcdctl shows them.
enum Shown {
  static func hex(_ id: UInt64) -> String { String(id, radix: 16) }

  /// Sixteen digits.
  static func lease(_ id: Int64) -> String { padded(UInt64(bitPattern: id), with: "0") }

  /// Sixteen columns, blanks on the left.
  static func paddedMember(_ id: UInt64) -> String { padded(id, with: " ") }

  private static func padded(_ id: UInt64, with filler: String) -> String {
    let digits = hex(id)
    return String(repeating: filler, count: 16 - digits.count) + digits
  }

  /// `\x66\x6f`.
  static func escaped(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    bytes.flatMap { byte -> [UInt8] in
      let digits = String(byte, radix: 16)
      return Array("\\x\(digits.count == 1 ? "0" : "")\(digits)".utf8)
    }
  }

  /// A size in units of 1000: `5 B`, `37 kB`, `2.1 GB`.
  static func size(_ bytes: Int64) -> String {
    let value = UInt64(clamping: bytes)
    if value < 10 { return "\(value) B" }
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    var scale: UInt64 = 1
    var unit = 0
    while value / scale >= 1000, unit + 1 < units.count {
      scale *= 1000
      unit += 1
    }
    // Tenths, rounded half up.
    let tenths = (Double(value) / Double(scale) * 10 + 0.5).rounded(.down)
    if tenths < 100 {
      return "\(Int(tenths) / 10).\(Int(tenths) % 10) \(units[unit])"
    }
    return "\(Int((tenths / 10).rounded(.toNearestOrEven))) \(units[unit])"
  }

  /// The whole percentage of `size` that is not in use; 0 for an empty database.
  static func unusedPercent(inUse: Int64, size: Int64) -> Int64 {
    size > 0 ? 100 - inUse * 100 / size : 0
  }
}
