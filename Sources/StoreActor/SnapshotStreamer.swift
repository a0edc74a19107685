public import Actors
public import Base
public import EtcdAPI
import FoundationEssentials
import Glibc
import SwiftProtobuf

/// What is asked of the actor that reads store files for clients.
public enum StreamerInput: Sendable {
  case open(id: UInt64, path: String)
  /// A few more pieces.
  case next(id: UInt64)
  /// The client has gone.
  case close(id: UInt64)
}

/// The actor that turns exported store files into the messages of Maintenance.Snapshot.
///
/// Lives on the BACKEND thread, so that no read of a file holds up the loop. Files are removed when
/// their last piece is out or the client has gone.
public actor SnapshotStreamer {
  private static let piecesPerRead = 8

  private nonisolated let executor: any ActorExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  public nonisolated let inbox = Inbox<StreamerInput>(name: "snapshots", limit: 1 << 16)
  private let version: String
  private let deliver: @Sendable (_ id: UInt64, _ messages: [Bytes], _ isLast: Bool) -> Void
  private let failed: @Sendable (_ id: UInt64, EtcdError) -> Void
  private var open: [UInt64: (chunks: SnapshotChunks, path: String)] = [:]

  /// - Parameter version: the storage version that every message names.
  public init(
    version: String, executor: any ActorExecutor,
    deliver: @escaping @Sendable (UInt64, [Bytes], Bool) -> Void,
    failed: @escaping @Sendable (UInt64, EtcdError) -> Void
  ) {
    self.version = version
    self.executor = executor
    self.deliver = deliver
    self.failed = failed
  }

  public nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { streamer in
        for input in batch { streamer.perform(input) }
      }
    }
  }

  private func perform(_ input: StreamerInput) {
    switch input {
    case .open(let id, let path):
      do throws(BackendError) {
        open[id] = (try SnapshotChunks(path: path), path)
      } catch {
        failed(id, EtcdError(.unknown, "\(error)"))
      }
    case .next(let id): next(id)
    case .close(let id): close(id)
    }
  }

  private func next(_ id: UInt64) {
    guard let (chunks, _) = open[id] else { return }
    var messages: [Bytes] = []
    do {
      for _ in 0..<Self.piecesPerRead {
        guard let chunk = try chunks.next() else {
          messages.append(try message(chunks.finishHash(), remaining: 0))
          close(id)
          return deliver(id, messages, true)
        }
        messages.append(try message(chunk.blob, remaining: chunk.remaining))
      }
      deliver(id, messages, false)
    } catch {
      close(id)
      failed(id, EtcdError(.unknown, "\(error)"))
    }
  }

  private func message(_ blob: Bytes, remaining: UInt64) throws -> Bytes {
    try Etcdserverpb_SnapshotResponse.with {
      $0.blob = .init(blob)
      $0.remainingBytes = remaining
      $0.version = version
    }.serializedBytes()
  }

  private func close(_ id: UInt64) {
    guard let (_, path) = open.removeValue(forKey: id) else { return }
    unlink(path)
  }
}
