// snapshot save

import EtcdAPI
import EtcdClient
import FoundationEssentials
import Glibc

enum SnapshotCommand {
  static let spec = CommandSpec(
    "snapshot", "", "Manages etcd node snapshots", group: .cluster,
    subcommands: [
      CommandSpec(
        "save", "<filename>", "Stores an etcd node backend snapshot to a given file", action: save)
    ])

  /// The image is followed by a SHA-256, and pages are multiples of a sector.
  private static let checksumBytes = 32
  private static let sectorBytes = 512

  private static func failure(_ message: String) -> CommandFailure {
    CommandFailure(CommandFailure.Code.interrupted, message)
  }

  @Sendable
  private static func save(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("snapshot save expects one argument <filename>")
    }
    let session = try await call.connect()
    guard session.endpoints.count == 1 else {
      let given = session.endpoints.map(\.description).joined(separator: " ")
      throw failure("snapshot must be requested to one selected node, not multiple [\(given)]")
    }
    let path = call.positionals[0]
    let part = path + ".part"
    let descriptor = openPath(part)
    guard descriptor >= 0 else {
      throw failure("could not open \(part) (open \(part): \(SystemText.error(errno)))")
    }
    let version: String
    do throws(CommandFailure) {
      version = try await receive(into: descriptor, session)
      close(descriptor)
    } catch {
      close(descriptor)
      unlink(part)
      throw error
    }
    guard rename(part, path) == 0 else {
      throw failure("could not rename \(part) to \(path) (\(SystemText.error(errno)))")
    }
    call.console.print("Snapshot saved at \(path)")
    if !version.isEmpty { call.console.print("Server version \(version)") }
  }

  private static func openPath(_ path: String) -> Int32 {
    open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  }

  /// Writes the stream to a file and makes it durable; returns the server's version.
  private static func receive(
    into descriptor: Int32, _ session: Session
  ) async throws(CommandFailure) -> String {
    let timeout: CallOptions.Timeout =
      session.hasExplicitTimeout ? .after(session.commandTimeout) : .never
    let code = CommandFailure.Code.interrupted
    let stream = try await reporting(code: code) { () async throws(EtcdClientError) in
      try session.client.snapshot(endpoint: session.endpoints[0], timeout: timeout)
    }
    var version = ""
    var size = 0
    while true {
      let chunk = try await reporting(code: code) { () async throws(EtcdClientError) in
        try await stream.next()
      }
      guard let chunk else { break }
      if !chunk.version.isEmpty { version = chunk.version }
      size += chunk.blob.count
      try write(chunk.blob, to: descriptor)
    }
    guard size % sectorBytes == checksumBytes else {
      throw failure("sha256 checksum not found [bytes: \(size)]")
    }
    guard fsync(descriptor) == 0 else {
      throw failure("could not sync the snapshot: \(SystemText.error(errno))")
    }
    return version
  }

  private static func write(_ data: Data, to descriptor: Int32) throws(CommandFailure) {
    let bytes = Array(data)
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress?.advanced(by: done), bytes.count - done)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        throw failure("could not write the snapshot: \(SystemText.error(errno))")
      }
      done += count
    }
  }
}
