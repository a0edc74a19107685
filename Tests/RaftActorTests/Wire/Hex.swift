import Base

/// Bytes written as hexadecimal digits; blanks are for the reader.
func hex(_ text: String) -> Bytes {
  let digits = text.filter { !$0.isWhitespace }
  precondition(digits.count % 2 == 0, "two digits make a byte")
  var bytes: Bytes = []
  var rest = digits[...]
  while !rest.isEmpty {
    guard let byte = UInt8(rest.prefix(2), radix: 16) else {
      preconditionFailure("not hex: \(rest)")
    }
    bytes.append(byte)
    rest = rest.dropFirst(2)
  }
  return bytes
}
