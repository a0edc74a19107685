import Actors
import Base
import Glibc
import HTTP
import RaftActor

/// Sends one snapshot message and its file by `POST /raft/snapshot`, a slice at a time.
final class SnapshotSender {
  private static let sliceBytes = 256 << 10
  /// Slices per loop turn, so that a fast receiver does not keep the loop from other work.
  private static let slicesPerTurn = 4
  private static let stallMilliseconds: UInt64 = 30_000
  /// The receiver syncs its file before it answers.
  private static let answerMilliseconds: UInt64 = 600_000

  let url: PeerURL
  /// CRC-32C of the file, in hexadecimal. TCP's own checksum lets one error in some ten thousand pass,
  /// and no one would notice a changed value. Members of etcd overlook it.
  static let checksumHeader = "X-Apus-Snapshot-CRC32C"

  private let message: Message
  private let path: String
  private let member: MemberID
  private let hub: PeerHub
  private var onEnd: (SnapshotSender, Bool) -> Void = { _, _ in }
  private var descriptor: Int32 = -1
  private var remaining = 0
  private var checksum: UInt32?
  private var connector: Connector?
  private var connection: StreamConnection?
  private var nextTurn: LoopTimer?
  private let codec = HTTP1ClientCodec()
  private var status: Int?
  private var answer: Bytes = []
  private var isAnswered = false
  private var isEnded = false
  private var sentBytes = 0
  private var progress: (acknowledged: Int, at: UInt64)
  private let began: UInt64

  init(message: Message, path: String, url: PeerURL, to member: MemberID, hub: PeerHub) {
    self.message = message
    self.path = path
    self.url = url
    self.member = member
    self.hub = hub
    began = hub.loop.now
    progress = (0, hub.now)
  }

  /// Removes a file that is not going to be sent.
  static func discard(_ path: String) { unlink(path) }

  /// - Parameter onEnd: called once, after the outlet, never from within this call.
  func start(_ onEnd: @escaping (SnapshotSender, Bool) -> Void) {
    self.onEnd = onEnd
    hub.outlets.metrics.snapshotSendBegan(member)
    hub.log(.info, "sending database snapshot", fields)
    hub.checksum(of: path) { checksum in
      guard !self.isEnded else { return }
      self.checksum = checksum
      self.connect()
    }
  }

  private func connect() {
    connector = Connector.connect(
      to: url.address, timeoutMilliseconds: hub.configuration.dialTimeoutMilliseconds,
      loop: hub.loop, security: hub.security(for: url)
    ) { result in
      self.connector = nil
      switch result {
      case .success(let connection): self.didConnect(connection)
      case .failure(let error): self.end(error.description)
      }
    }
  }

  private var fields: [(String, String)] {
    [
      ("snapshot-index", "\(message.snapshot?.metadata.index ?? 0)"),
      ("remote-peer-id", member.hex),
    ]
  }

  private func didConnect(_ connection: StreamConnection) {
    self.connection = connection
    connection.highWatermark = 1 << 20
    connection.lowWatermark = 256 << 10
    connection.onWritable = { self.pump() }
    connection.startReading(onBytes: { self.receive($0) }, onEnd: { self.didEnd($0) })
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    var info = stat()
    guard descriptor >= 0, fstat(descriptor, &info) == 0 else {
      return end("open \(path): \(systemErrorText(errno))")
    }
    remaining = Int(info.st_size)
    let prefix = SnapshotHeaderDecoder.encode(message)
    var head: Bytes = []
    HTTP1Encoder.requestHead(
      method: "POST", target: "/raft/snapshot", host: url.authority,
      headers: hub.raftHeaders + [HTTPField("Content-Type", "application/octet-stream")]
        + (checksum.map { [HTTPField(Self.checksumHeader, UInt64($0).hex)] } ?? []),
      body: .length(prefix.count + remaining), keepAlive: false, to: &head)
    write(head + prefix)
    progress = (0, hub.now)
    pump()
  }

  private func write(_ bytes: Bytes) {
    sentBytes += bytes.count
    connection?.write(bytes)
  }

  /// Sends slices until the socket is full, the turn's share is done, or the file is.
  private func pump() {
    guard let connection, !isEnded else { return }
    var slices = Self.slicesPerTurn
    while remaining > 0, connection.isWritable {
      guard slices > 0 else { return continueNextTurn() }
      slices -= 1
      var failure: String?
      let wanted = min(remaining, Self.sliceBytes)
      let slice = Bytes(unsafeUninitializedCapacity: wanted) { buffer, count in
        let got = read(descriptor, buffer.baseAddress, wanted)
        count = max(0, got)
        if got < 0 { failure = "read \(path): \(systemErrorText(errno))" }
        if got == 0 { failure = "read \(path): file is shorter than it was" }
      }
      if let failure { return end(failure) }
      remaining -= slice.count
      write(slice)
    }
  }

  private func continueNextTurn() {
    let timer = nextTurn ?? LoopTimer(loop: hub.loop) { [weak self] in self?.pump() }
    nextTurn = timer
    timer.schedule(afterMilliseconds: 0)
  }

  // MARK: The answer

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    do throws(HTTP1Error) {
      try codec.receive(bytes) { note($0) }
    } catch {
      if !isAnswered { return end("\(error)") }
    }
    if isAnswered { finish() }
  }

  private func note(_ event: HTTP1ClientEvent) {
    switch event {
    case .head(let head): status = head.status
    case .body(let bytes): answer.append(contentsOf: bytes.prefix(1024 - min(1024, answer.count)))
    case .end: isAnswered = true
    }
  }

  private func didEnd(_ error: StreamError?) {
    if error == nil { try? codec.receiveEnd { note($0) } }
    if isAnswered { finish() } else { end(error?.description ?? "unexpected EOF") }
  }

  private func finish() {
    if status == 204 { return end(nil) }
    let text = String(decoding: answer, as: UTF8.self).split(separator: "\n").first ?? ""
    end("unexpected http status \(status ?? 0): \(text)")
  }

  func tick(now: UInt64) {
    guard let connection, !isEnded else { return }
    let acknowledged = sentBytes - connection.queuedBytes
    if acknowledged != progress.acknowledged { progress = (acknowledged, now) }
    let isSent = remaining == 0 && connection.queuedBytes == 0
    let patience = isSent ? Self.answerMilliseconds : Self.stallMilliseconds
    if now >= progress.at + patience { end("i/o timeout") }
  }

  func abort() { end("stopped") }

  private func end(_ failure: String?) {
    guard !isEnded else { return }
    isEnded = true
    connector?.cancel()
    nextTurn?.cancel()
    connection?.close()
    connection = nil
    if descriptor >= 0 { close(descriptor) }
    Self.discard(path)
    let seconds = Double(hub.loop.now - began) / 1e9
    if let failure {
      hub.log(.warn, "failed to send database snapshot", fields + [("error", failure)])
    } else {
      hub.countSent(sentBytes, to: member)
      hub.log(.info, "sent database snapshot", fields + [("bytes", "\(sentBytes)")])
    }
    hub.outlets.metrics.snapshotSendEnded(member, failure == nil, seconds)
    hub.outlets.snapshotSent(member, failure == nil)
    onEnd(self, failure == nil)
  }
}

/// The system's text for an error number, as Go prints it.
func systemErrorText(_ number: Int32) -> String {
  guard let text = strerror(number) else { return "error \(number)" }
  let string = String(cString: text)
  return string.prefix(1).lowercased() + string.dropFirst()
}
