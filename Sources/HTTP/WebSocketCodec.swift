/// Reads and writes the frames of a WebSocket (RFC 6455), server side, without extensions.
public struct WebSocketCodec {
  public enum Event: Equatable, Sendable {
    /// A whole text or binary message.
    case message([UInt8])
    case ping([UInt8])
    /// The peer ends the connection, with its status code if it gave one.
    case close(UInt16?)
  }

  /// What the peer did wrong, by the status code that it is to be told.
  public enum Failure: Error, Equatable, Sendable {
    case protocolError
    case messageTooLarge

    public var closeCode: UInt16 { self == .protocolError ? 1002 : 1009 }
  }

  public enum Opcode: UInt8, Sendable {
    case continuation = 0
    case text = 1
    case binary = 2
    case close = 8
    case ping = 9
    case pong = 10

    var isControl: Bool { rawValue >= 8 }
  }

  private let messageBytesMax: Int
  private var pending: [UInt8] = []
  /// Of a message that comes in several frames.
  private var fragments: [UInt8]?

  /// - Parameter messageBytesMax: largest message accepted, all its fragments together.
  public init(messageBytesMax: Int) {
    self.messageBytesMax = messageBytesMax
  }

  /// Takes bytes from the peer; returns what they complete, in order.
  public mutating func receive(_ bytes: UnsafeRawBufferPointer) throws(Failure) -> [Event] {
    pending.append(contentsOf: bytes)
    var events: [Event] = []
    var at = 0
    while let frame = try Self.frame(in: pending[at...], limit: messageBytesMax) {
      at = frame.end
      if let event = try take(frame) { events.append(event) }
    }
    pending.removeFirst(at)
    return events
  }

  private struct Frame {
    var isFinal: Bool
    var opcode: Opcode
    var payload: [UInt8]
    var end: Int
  }

  /// The frame at the head of `bytes`; nil if it is not complete.
  private static func frame(
    in bytes: ArraySlice<UInt8>, limit: Int
  ) throws(Failure) -> Frame? {
    guard bytes.count >= 2 else { return nil }
    let start = bytes.startIndex
    let first = bytes[start]
    // No extension is agreed on, so the reserved bits must be zero.
    guard first & 0x70 == 0, let opcode = Opcode(rawValue: first & 0x0f),
      bytes[start + 1] & 0x80 != 0
    else { throw .protocolError }
    let isFinal = first & 0x80 != 0
    let short = Int(bytes[start + 1] & 0x7f)
    guard !opcode.isControl || (isFinal && short <= 125) else { throw .protocolError }
    let lengthBytes = short == 126 ? 2 : short == 127 ? 8 : 0
    let maskStart = start + 2 + lengthBytes
    guard bytes.endIndex >= maskStart + 4 else { return nil }
    var count = UInt64(short)
    if lengthBytes > 0 {
      count = bytes[start + 2..<maskStart].reduce(0) { $0 << 8 | UInt64($1) }
    }
    guard count <= UInt64(limit) else { throw .messageTooLarge }
    let payloadStart = maskStart + 4
    let end = payloadStart + Int(count)
    guard bytes.endIndex >= end else { return nil }
    let mask = bytes[maskStart..<payloadStart]
    var payload = Array(bytes[payloadStart..<end])
    for index in payload.indices { payload[index] ^= mask[maskStart + index & 3] }
    return Frame(isFinal: isFinal, opcode: opcode, payload: payload, end: end)
  }

  private mutating func take(_ frame: Frame) throws(Failure) -> Event? {
    switch frame.opcode {
    case .ping: return .ping(frame.payload)
    case .pong: return nil
    case .close:
      guard frame.payload.count >= 2 else { return .close(nil) }
      return .close(UInt16(frame.payload[0]) << 8 | UInt16(frame.payload[1]))
    case .text, .binary:
      guard fragments == nil else { throw .protocolError }
      if frame.isFinal { return .message(frame.payload) }
      fragments = frame.payload
      return nil
    case .continuation:
      guard var message = fragments else { throw .protocolError }
      fragments = nil
      guard message.count + frame.payload.count <= messageBytesMax else {
        throw .messageTooLarge
      }
      message.append(contentsOf: frame.payload)
      if frame.isFinal { return .message(message) }
      fragments = message
      return nil
    }
  }

  /// Appends one whole frame, unmasked as a server's have to be.
  public static func append(
    _ opcode: Opcode, _ payload: some Collection<UInt8>, to output: inout [UInt8]
  ) {
    output.append(0x80 | opcode.rawValue)
    let count = payload.count
    switch count {
    case ...125: output.append(UInt8(count))
    case ...65_535:
      output.append(126)
      for shift in [8, 0] { output.append(UInt8(truncatingIfNeeded: count >> shift)) }
    default:
      output.append(127)
      for shift in stride(from: 56, through: 0, by: -8) {
        output.append(UInt8(truncatingIfNeeded: count >> shift))
      }
    }
    output.append(contentsOf: payload)
  }

  /// Appends a close frame with a status code.
  public static func appendClose(_ code: UInt16, to output: inout [UInt8]) {
    append(.close, [UInt8(code >> 8), UInt8(truncatingIfNeeded: code)], to: &output)
  }
}
