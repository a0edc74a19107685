/// What one flag was set to.
public enum FlagValue: Sendable, Equatable {
  case text(String)
  case bool(Bool)
  case unsigned(UInt64)
  case signed(Int64)
  case duration(Duration)
  case urls([EtcdURL])
  case words([String])
  case gates([FeatureGates.Assignment])
}

/// Why a flag's text was refused; the tail of `invalid value "x" for flag -f: ...`.
public struct FlagValueError: Error, Equatable, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = description }
  static let syntax = FlagValueError("parse error")
  static let range = FlagValueError("value out of range")
}

extension FlagValue {
  /// Reads `text` by the rules Go applies to this kind of flag.
  public init(_ text: String, kind: FlagSpec.Kind) throws(FlagValueError) {
    switch kind {
    case .text: self = .text(text)
    case .bool:
      guard let value = GoNumber.bool(text) else { throw .syntax }
      self = .bool(value)
    case .unsigned: self = .unsigned(try GoNumber.unsigned(text))
    case .unsigned32:
      let quoted = text.goQuoted
      guard let value = try? GoNumber.unsigned(text) else {
        throw FlagValueError("strconv.ParseUint: parsing \(quoted): invalid syntax")
      }
      guard value <= UInt64(UInt32.max) else {
        throw FlagValueError("strconv.ParseUint: parsing \(quoted): value out of range")
      }
      self = .unsigned(value)
    case .signed: self = .signed(try GoNumber.signed(text))
    case .duration:
      guard let value = try? GoDuration.parse(text) else { throw .syntax }
      self = .duration(value)
    case .urls(let allowed):
      // A wildcard or "none" is held as an empty list.
      if let allowed, text == allowed {
        self = .urls([])
        return
      }
      do { self = .urls(try EtcdURL.parseList(text)) } catch {
        throw FlagValueError(error.description)
      }
    case .words: self = .words(Self.words(text))
    case .choice(let words):
      guard words.contains(text) else { throw FlagValueError("invalid value") }
      self = .text(text)
    case .gates: self = .gates(try FeatureGates.parse(text))
    }
  }

  private static func words(_ text: String) -> [String] {
    var result: [String] = []
    for word in text.split(separator: ",").map(String.init).sorted() where result.last != word {
      result.append(word)
    }
    return result
  }
}

/// Numbers and truth values as Go's `strconv` reads them.
enum GoNumber {
  static func bool(_ text: String) -> Bool? {
    switch text {
    case "1", "t", "T", "TRUE", "true", "True": true
    case "0", "f", "F", "FALSE", "false", "False": false
    default: nil
    }
  }

  /// Base prefixes `0x`, `0o`, `0b` and a leading `0` (octal) are understood.
  static func unsigned(_ text: String) throws(FlagValueError) -> UInt64 {
    var digits = Substring(text)
    var radix = 10
    if digits.count > 1, digits.first == "0" {
      switch digits.dropFirst().first {
      case "x", "X": (radix, digits) = (16, digits.dropFirst(2))
      case "o", "O": (radix, digits) = (8, digits.dropFirst(2))
      case "b", "B": (radix, digits) = (2, digits.dropFirst(2))
      default: (radix, digits) = (8, digits.dropFirst())
      }
    }
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && digit($0, below: radix) }) else {
      throw .syntax
    }
    guard let value = UInt64(digits, radix: radix) else { throw .range }
    return value
  }

  private static func digit(_ character: Character, below radix: Int) -> Bool {
    character.hexDigitValue.map { $0 < radix } ?? false
  }

  static func signed(_ text: String) throws(FlagValueError) -> Int64 {
    let negative = text.hasPrefix("-")
    let magnitude = try unsigned(
      negative || text.hasPrefix("+") ? String(text.dropFirst()) : text)
    if negative {
      guard magnitude <= 1 << 63 else { throw .range }
      return magnitude == 1 << 63 ? Int64.min : -Int64(magnitude)
    }
    guard magnitude < 1 << 63 else { throw .range }
    return Int64(magnitude)
  }
}

/// The values of all flags: defaults, then whatever was given.
public struct FlagValues: Sendable {
  private var values = FlagValues.defaults
  private var given: Set<String> = []
  /// Common names that client certificates may bear. There is a key for it in files, but no flag.
  public var clientAllowedCommonNames: [String] = []

  public init() {}

  private static let defaults: [String: FlagValue] = Dictionary(
    uniqueKeysWithValues: FlagTable.all.map { spec in
      guard let value = try? FlagValue(spec.defaultText, kind: spec.kind) else {
        preconditionFailure("flag \(spec.name) has a default that is not of its kind")
      }
      return (spec.name, value)
    })

  public mutating func set(_ name: String, to value: FlagValue) {
    precondition(values[name] != nil, "unknown flag \(name)")
    given.insert(name)
    if case .gates(let new) = value, case .gates(let old)? = values[name] {
      // Later assignments win one by one, so the list is extended, not replaced.
      values[name] = .gates(old + new)
      return
    }
    values[name] = value
  }

  /// Whether the flag was given at all, even with its default value.
  public func isGiven(_ name: String) -> Bool { given.contains(name) }

  /// Whether the flag has another value than it would have had if not given.
  func isChanged(_ name: String) -> Bool { self[name] != Self.defaults[name] }

  public subscript(name: String) -> FlagValue {
    guard let value = values[name] else { preconditionFailure("unknown flag \(name)") }
    return value
  }

  func text(_ name: String) -> String {
    guard case .text(let value) = self[name] else { preconditionFailure("\(name) is no text") }
    return value
  }
  func bool(_ name: String) -> Bool {
    guard case .bool(let value) = self[name] else { preconditionFailure("\(name) is no bool") }
    return value
  }
  func unsigned(_ name: String) -> UInt64 {
    guard case .unsigned(let value) = self[name] else { preconditionFailure("\(name): not uint") }
    return value
  }
  func signed(_ name: String) -> Int64 {
    guard case .signed(let value) = self[name] else { preconditionFailure("\(name): not int") }
    return value
  }
  func duration(_ name: String) -> Duration {
    guard case .duration(let value) = self[name] else {
      preconditionFailure("\(name) is no duration")
    }
    return value
  }
  func urls(_ name: String) -> [EtcdURL] {
    guard case .urls(let value) = self[name] else { preconditionFailure("\(name) is no URL list") }
    return value
  }
  func words(_ name: String) -> [String] {
    guard case .words(let value) = self[name] else { preconditionFailure("\(name): not a list") }
    return value
  }
  func gates(_ name: String) -> [FeatureGates.Assignment] {
    guard case .gates(let value) = self[name] else { preconditionFailure("\(name): not gates") }
    return value
  }
}
