public import Base

/// What is wrong with bytes that claim to be a Raft message, entry or stream frame.
public enum WireError: Error, Equatable, Sendable {
  /// The named message is not valid protobuf.
  case malformed(String, ProtobufError)
  /// An enum of the named message holds a number that this version does not know.
  case unknownKind(String, UInt64)
  /// A frame announces more than the stream allows.
  case frameTooLong(bytes: UInt64, limit: Int)
  /// A msgapp frame starts with a byte other than 0, 1, 2.
  case unknownFrameType(UInt8)
  /// An entry of a short msgapp frame does not continue the stream.
  case entryOutOfPlace(expected: LogIndex, found: LogIndex)
  /// A ConfChangeV2 that is not one simple change.
  case jointConfiguration
  /// The named message is not what its checksum says.
  case badChecksum(String)
  /// Entry data that holds neither an internal request nor a v2 request.
  case noRequest
}

extension WireError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .malformed(let message, let cause): "malformed \(message): \(cause)"
    case .unknownKind(let message, let value): "unknown kind \(value) of \(message)"
    case .frameTooLong(let bytes, let limit): "frame of \(bytes) bytes, at most \(limit) allowed"
    case .unknownFrameType(let type): "unknown msgapp frame type \(type)"
    case .entryOutOfPlace(let expected, let found):
      "entry \(found) on the msgapp stream where \(expected) was due"
    case .jointConfiguration: "joint configuration changes are not supported"
    case .badChecksum(let message): "\(message) does not fit its checksum"
    case .noRequest: "entry data is neither an internal request nor a v2 request"
    }
  }
}

/// A message with a hand-written protobuf form.
public protocol WireMessage {
  /// Exact count of bytes that `encode` appends.
  var encodedCount: Int { get }

  func encode(into writer: inout ProtobufWriter)

  /// Reads one whole message; unknown fields are skipped, absent means zero.
  init(decoding buffer: UnsafeRawBufferPointer) throws(WireError)
}

extension WireMessage {
  public func encoded() -> Bytes {
    var writer = ProtobufWriter(reserving: encodedCount)
    encode(into: &writer)
    return writer.bytes
  }

  /// Appends the encoded message to `bytes` without copying what is there.
  public func append(to bytes: inout Bytes) {
    var taken: Bytes = []
    swap(&taken, &bytes)
    var writer = ProtobufWriter(appendingTo: consume taken)
    encode(into: &writer)
    bytes = writer.bytes
  }

  public init(decoding bytes: Bytes) throws(WireError) {
    // `withUnsafeBytes` cannot carry the typed error through a generic result in every context.
    let result = bytes.withUnsafeBytes { buffer -> Result<Self, WireError> in
      do throws(WireError) { return .success(try Self(decoding: buffer)) } catch {
        return .failure(error)
      }
    }
    self = try result.get()
  }
}

/// `ProtobufReader` that names the message in its errors.
struct WireReader {
  private var reader: ProtobufReader
  private let message: String

  init(_ buffer: UnsafeRawBufferPointer, _ message: String) {
    reader = ProtobufReader(buffer)
    self.message = message
  }

  struct Field {
    let field: ProtobufReader.Field
    let message: String

    var number: Int { field.number }

    func uint64() throws(WireError) -> UInt64 {
      do throws(ProtobufError) { return try field.uint64() } catch {
        throw .malformed(message, error)
      }
    }

    func bool() throws(WireError) -> Bool { try uint64() != 0 }

    func buffer() throws(WireError) -> UnsafeRawBufferPointer {
      do throws(ProtobufError) { return try field.buffer() } catch {
        throw .malformed(message, error)
      }
    }

    func bytes() throws(WireError) -> Bytes { Bytes(try buffer()) }

    /// One value of an unpacked repeated field, or all of a packed one.
    func appendVarints(to list: inout [UInt64]) throws(WireError) {
      if let single = try? field.uint64() {
        list.append(single)
        return
      }
      var rest = try buffer()[...]
      while !rest.isEmpty {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
          guard let byte = rest.popFirst() else { throw .malformed(message, .truncated) }
          guard shift < 64 else { throw .malformed(message, .varintTooLong) }
          value |= UInt64(byte & 0x7f) << shift
          shift += 7
          if byte < 0x80 { break }
        }
        list.append(value)
      }
    }
  }

  mutating func next() throws(WireError) -> Field? {
    do throws(ProtobufError) {
      guard let field = try reader.next() else { return nil }
      return Field(field: field, message: message)
    } catch {
      throw .malformed(message, error)
    }
  }
}

extension ProtobufWriter {
  /// Bytes of a varint field with a number below 16, left out when zero.
  static func fieldCount(_ value: UInt64) -> Int { value == 0 ? 0 : 1 + varintCount(value) }

  /// Bytes of a bytes or message field with a number below 16 and `count` bytes of content.
  static func fieldCount(content count: Int) -> Int { 1 + varintCount(UInt64(count)) + count }

  /// A bytes field, left out when empty: one call and one copy.
  mutating func field(_ number: Int, content: Bytes) {
    if content.isEmpty { return }
    lengthPrefix(number, content.count)
    content.withUnsafeBytes { raw($0) }
  }
}
