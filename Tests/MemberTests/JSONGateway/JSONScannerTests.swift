import Base
import Testing

@testable import Member

@Suite struct JSONScannerTests {
  /// The values of a text, and what stopped the scan.
  private func scan(_ text: String, piece: Int = .max) -> (values: [String], failure: String?) {
    var scanner = JSONScanner()
    var values: [String] = []
    var value = Bytes()
    let bytes = Bytes(text.utf8)
    var at = 0
    while at < bytes.count {
      let end = piece == .max ? bytes.count : min(bytes.count, at + piece)
      let outcome = bytes[at..<end].withUnsafeBytes { scanner.scan($0) }
      switch outcome {
      case .needMore:
        value += bytes[at..<end]
        at = end
      case .value(let count):
        values.append(String(decoding: value + bytes[at..<at + count], as: UTF8.self))
        value = []
        at += count
      case .failed(let reason): return (values, reason)
      }
    }
    if scanner.end() { values.append(String(decoding: value, as: UTF8.self)) }
    return (values, scanner.isInValue ? "unexpected EOF" : nil)
  }

  @Test(arguments: [1, 2, 3, .max])
  func valuesOneAfterTheOther(piece: Int) {
    let text = #"{"a":[1,{"b":"}\"]"}],"c":-1.5e+3} [] "x"5 true{"n":null}0 12"#
    let found = scan(text, piece: piece)
    #expect(found.failure == nil)
    #expect(
      found.values.map { $0.filter { $0 != " " } } == [
        #"{"a":[1,{"b":"}\"]"}],"c":-1.5e+3}"#, "[]", #""x""#, "5", "true", #"{"n":null}"#, "0",
        "12",
      ])
  }

  /// The words of Go's decoder, as real members say them.
  @Test(arguments: [
    ("x", "invalid character 'x' looking for beginning of value"),
    (#"{"key":}"#, "invalid character '}' looking for beginning of value"),
    ("{1:2}", "invalid character '1' looking for beginning of object key string"),
    (#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
    (#"{"a" 1}"#, "invalid character '1' after object key"),
    (#"{"a":1 2}"#, "invalid character '2' after object key:value pair"),
    ("[1 2]", "invalid character '2' after array element"),
    ("[1,]", "invalid character ']' looking for beginning of value"),
    ("trux", "invalid character 'x' in literal true (expecting 'e')"),
    ("nulL", "invalid character 'L' in literal null (expecting 'l')"),
    ("-a", "invalid character 'a' in numeric literal"),
    ("1.x", "invalid character 'x' after decimal point in numeric literal"),
    ("1e+}", "invalid character '}' in exponent of numeric literal"),
    ("\"\\x\"", "invalid character 'x' in string escape code"),
    ("\"\\u12G4\"", "invalid character 'G' in \\u hexadecimal character escape"),
    ("\"a\tb\"", #"invalid character '\t' in string literal"#),
    ("\"a\u{1}b\"", #"invalid character '\x01' in string literal"#),
    ("'", #"invalid character '\'' looking for beginning of value"#),
    (#"{"a":1"#, "unexpected EOF"), ("\"a", "unexpected EOF"), ("-", "unexpected EOF"),
    ("tru", "unexpected EOF"), ("[", "unexpected EOF"),
  ])
  func errors(text: String, reason: String) {
    #expect(scan(text).failure == reason)
    #expect(scan(text, piece: 1).failure == reason)
  }

  @Test func deepNestingIsRefused() {
    #expect(scan(String(repeating: "[", count: 10_001)).failure == "exceeded max depth")
    #expect(scan(String(repeating: "[", count: 10_000)).failure == "unexpected EOF")
  }
}
