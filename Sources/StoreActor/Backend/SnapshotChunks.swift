public import Base
import Glibc

/// A finished snapshot file cut into the pieces of etcd's Snapshot stream.
public final class SnapshotChunks {
  public struct Chunk: Sendable, Equatable {
    public let blob: Bytes
    /// Bytes of the file that follow this piece.
    public let remaining: UInt64
  }

  /// etcd's size of one piece.
  public static let chunkBytesMax = 32 << 10

  private let file: OwnedFile
  private var digest = SHA256Stream()
  private var offset = 0
  public let byteCount: Int

  public init(path: String) throws(BackendError) {
    file = try OwnedFile(path: path, flags: O_RDONLY)
    byteCount = try file.byteCount()
  }

  /// The next piece, or nil after the last. Reads from disk: not on the LOOP thread.
  public func next(maxBytes: Int = chunkBytesMax) throws(BackendError) -> Chunk? {
    guard offset < byteCount else { return nil }
    var blob = Bytes(repeating: 0, count: min(maxBytes, byteCount - offset))
    let read = try blob.withUnsafeMutableBufferPointer { (buffer) throws(BackendError) in
      try file.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
    }
    guard read == blob.count else {
      throw .ioFailure(file: file.path, operation: "read", errno: EIO)
    }
    offset += read
    digest.update(blob)
    return Chunk(blob: blob, remaining: UInt64(byteCount - offset))
  }

  /// SHA-256 of all pieces: the stream's last message. Call once, after `next` has returned nil.
  public func finishHash() -> Bytes {
    precondition(offset == byteCount, "pieces are left")
    return digest.finish()
  }
}
