import CZlib

/// gzip over whole buffers, for compressed gRPC messages.
public enum Gzip {
  public enum Failure: Error, Equatable, Sendable {
    /// The decompressed data would exceed the limit given.
    case tooLarge
    /// Not a complete gzip stream.
    case malformed
  }

  /// Compresses `bytes` into one gzip member.
  public static func compress(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var stream = z_stream()
    return withUnsafeMutablePointer(to: &stream) { stream in
      let gzipWindow = MAX_WBITS + 16
      let opened = deflateInit2_(
        stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, gzipWindow, 8, Z_DEFAULT_STRATEGY,
        zlibVersion(), Int32(MemoryLayout<z_stream>.size))
      precondition(opened == Z_OK, "out of memory for compression")
      defer { deflateEnd(stream) }
      let bound = Int(deflateBound(stream, UInt(bytes.count)))
      setInput(stream, bytes)
      return [UInt8](unsafeUninitializedCapacity: bound) { output, count in
        stream.pointee.next_out = output.baseAddress
        stream.pointee.avail_out = UInt32(bound)
        let result = deflate(stream, Z_FINISH)
        precondition(result == Z_STREAM_END, "deflateBound is an upper bound")
        count = bound - Int(stream.pointee.avail_out)
      }
    }
  }

  /// Decompresses one or more gzip members, at most `limit` bytes in all.
  public static func decompress(
    _ bytes: UnsafeRawBufferPointer, limit: Int
  ) throws(Failure) -> [UInt8] {
    var output: [UInt8] = []
    var stream = z_stream()
    let failure = withUnsafeMutablePointer(to: &stream) { stream -> Failure? in
      let opened = inflateInit2_(
        stream, MAX_WBITS + 16, zlibVersion(), Int32(MemoryLayout<z_stream>.size))
      precondition(opened == Z_OK, "out of memory for decompression")
      defer { inflateEnd(stream) }
      setInput(stream, bytes)
      return inflateAll(stream, into: &output, limit: limit)
    }
    if let failure { throw failure }
    return output
  }

  private static func setInput(
    _ stream: UnsafeMutablePointer<z_stream>, _ bytes: UnsafeRawBufferPointer
  ) {
    precondition(bytes.count <= Int(UInt32.max), "messages are bounded by their 32-bit prefix")
    let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.next_in = UnsafeMutablePointer(mutating: start)
    stream.pointee.avail_in = UInt32(bytes.count)
  }

  private static func inflateAll(
    _ stream: UnsafeMutablePointer<z_stream>, into output: inout [UInt8], limit: Int
  ) -> Failure? {
    let pieceBytes = 16384
    return withUnsafeTemporaryAllocation(byteCount: pieceBytes, alignment: 1) { piece in
      while true {
        stream.pointee.next_out = piece.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(pieceBytes)
        let result = inflate(stream, Z_NO_FLUSH)
        let produced = pieceBytes - Int(stream.pointee.avail_out)
        guard output.count + produced <= limit else { return .tooLarge }
        output.append(contentsOf: piece[..<produced])
        switch result {
        case Z_OK where produced > 0 || stream.pointee.avail_in > 0: continue
        case Z_STREAM_END where stream.pointee.avail_in == 0: return nil
        case Z_STREAM_END: inflateReset(stream)
        default: return .malformed
        }
      }
    }
  }
}
