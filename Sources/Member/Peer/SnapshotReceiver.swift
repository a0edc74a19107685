import Actors
import Base
import RaftActor

/// The body of one `POST /raft/snapshot`: a message, then a store file of any size.
final class SnapshotReceiver {
  /// Bytes that may wait for the disk before the sender is slowed down, and let go on.
  private static let queueBytesMax = 8 << 20
  private static let queueBytesLow = 2 << 20

  enum Verdict {
    case accepted
    case refused(PeerRefusal)
  }

  private let hub: PeerHub
  private let file: SnapshotFile
  private let onSlow: (_ pause: Bool) -> Void
  private let onEnd: (Verdict) -> Void
  private var header = SnapshotHeaderDecoder()
  private var message: Message?
  private var queuedBytes = 0
  private var receivedBytes = 0
  private var isPaused = false
  private var isEnded = false
  private let began: UInt64
  let token: UInt64
  private let checksum: UInt32?

  /// - Parameters:
  ///   - checksum: what the sender says of the file; nil if it says nothing.
  ///   - onSlow: the disk cannot keep up: stop reading, or go on.
  ///   - onEnd: called once, unless aborted.
  init(
    token: UInt64, checksum: UInt32?, hub: PeerHub, executor: ThreadExecutor,
    onSlow: @escaping (Bool) -> Void,
    onEnd: @escaping (Verdict) -> Void
  ) {
    self.token = token
    self.checksum = checksum
    self.hub = hub
    self.onSlow = onSlow
    self.onEnd = onEnd
    began = hub.loop.now
    let post = hub.post
    file = SnapshotFile(
      directory: hub.configuration.snapshotDirectory, executor: executor,
      synced: hub.outlets.metrics.snapshotSynced
    ) { post(.snapshotFile(token: token, $0)) }
  }

  func receive(_ bytes: UnsafeRawBufferPointer) {
    guard !isEnded else { return }
    receivedBytes += bytes.count
    if message != nil { return append(bytes) }
    do throws(WireError) {
      guard let (message, consumed) = try header.feed(bytes) else { return }
      if let refusal = objection(to: message) { return refuse(refusal) }
      self.message = message
      hub.outlets.metrics.snapshotReceiveBegan(message.from)
      hub.log(.info, "receiving database snapshot", fields(message))
      append(UnsafeRawBufferPointer(rebasing: bytes[consumed...]))
    } catch {
      refuse(Self.undecodable("\(error)"))
    }
  }

  private static func undecodable(_ reason: String) -> PeerRefusal {
    PeerRefusal(status: 400, text: "failed to decode raft message (\(reason))")
  }

  private static func unsaved(_ reason: String) -> PeerRefusal {
    PeerRefusal(status: 500, text: "failed to save KV snapshot (\(reason))")
  }

  private func objection(to message: Message) -> PeerRefusal? {
    guard message.kind == .snapshot, message.snapshot != nil else {
      return PeerRefusal(status: 400, text: "wrong raft message type")
    }
    let isForUs = message.to == hub.configuration.id && !hub.isRemoved(message.from)
    return isForUs ? nil : .processing
  }

  private func append(_ bytes: UnsafeRawBufferPointer) {
    guard !bytes.isEmpty else { return }
    queuedBytes += bytes.count
    file.append(Bytes(bytes))
    if queuedBytes >= Self.queueBytesMax, !isPaused {
      isPaused = true
      onSlow(true)
    }
  }

  /// The body is complete.
  func end() {
    guard !isEnded else { return }
    guard let message, let snapshot = message.snapshot else {
      return refuse(Self.undecodable("unexpected EOF"))
    }
    file.finish(index: snapshot.metadata.index, checksum: checksum)
  }

  func handle(_ event: SnapshotFile.Event) {
    guard !isEnded else { return }
    switch event {
    case .wrote(let count):
      queuedBytes -= count
      if isPaused, queuedBytes <= Self.queueBytesLow {
        isPaused = false
        onSlow(false)
      }
    case .stored(let path):
      guard let message else { return }
      hub.log(.info, "received and saved database snapshot", fields(message) + [("path", path)])
      hub.countReceived(receivedBytes, from: message.from)
      hub.didReceiveSnapshot(message, path)
      finish(succeeded: true)
      onEnd(.accepted)
    case .failed(let text): refuse(Self.unsaved(text))
    }
  }

  private func fields(_ message: Message) -> [(String, String)] {
    [
      ("local-member-id", hub.configuration.id.hex),
      ("remote-snapshot-sender-id", message.from.hex),
      ("incoming-snapshot-index", "\(message.snapshot?.metadata.index ?? 0)"),
    ]
  }

  private func refuse(_ refusal: PeerRefusal) {
    if let message {
      hub.outlets.metrics.receiveFailed(message.from)
      hub.log(.warn, refusal.text, fields(message))
    }
    finish(succeeded: false)
    onEnd(.refused(refusal))
  }

  /// The connection is gone.
  func abort() {
    guard !isEnded else { return }
    if let message {
      hub.log(.warn, "incoming database snapshot was cut off", fields(message))
    }
    finish(succeeded: false)
  }

  private func finish(succeeded: Bool) {
    isEnded = true
    if !succeeded { file.abandon() }
    hub.endSnapshotReceiver(token)
    if let message {
      let seconds = Double(hub.loop.now - began) / 1e9
      hub.outlets.metrics.snapshotReceiveEnded(message.from, succeeded, seconds)
    }
  }
}
