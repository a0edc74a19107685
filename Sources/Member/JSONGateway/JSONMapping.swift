import Base
import EtcdAPI
import FoundationEssentials
import SwiftProtobuf

/// Why a request's JSON is not its message.
struct JSONFailure: Error, Equatable {
  let text: String
}

/// Protobuf messages in JSON as etcd's gateway writes and reads them.
enum JSONMapping {
  private static let decoding: JSONDecodingOptions = {
    var options = JSONDecodingOptions()
    options.ignoreUnknownFields = true
    return options
  }()

  private static let encoding: JSONEncodingOptions = {
    var options = JSONEncodingOptions()
    options.preserveProtoFieldNames = true
    return options
  }()

  /// - Parameter text: one value whose syntax has been checked.
  static func decode<Request: Message>(
    _ type: Request.Type, _ text: Bytes
  ) throws(JSONFailure) -> Bytes {
    guard let first = text.first(where: { $0 > 0x20 }) else { return [] }
    switch first {
    case UInt8(ascii: "{"): break
    case UInt8(ascii: "n"): return []
    default:
      throw JSONFailure(text: "proto: syntax error (line 1:1): unexpected token \(token(text))")
    }
    let plain = JSONEscapes.resolved(text)
    do {
      return try Request(jsonUTF8Bytes: plain, options: decoding).serializedBytes()
    } catch {
      // Encoders of base64 that break lines are common.
      let unbroken = JSONEscapes.withoutLineBreaks(plain)
      let second = unbroken.flatMap { try? Request(jsonUTF8Bytes: $0, options: decoding) }
      if let bytes: Bytes = try? second?.serializedBytes() { return bytes }
      throw JSONFailure(text: "proto: invalid value: \(error)")
    }
  }

  static func encode<Response: Message>(
    _ type: Response.Type, _ message: Bytes
  ) throws -> Bytes {
    try Response(serializedBytes: message).jsonUTF8Bytes(options: encoding)
  }

  private static func token(_ text: Bytes) -> String {
    text.first == UInt8(ascii: "[") ? "[" : String(decoding: text.prefix(64), as: UTF8.self)
  }
}
