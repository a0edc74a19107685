import Actors
import Base
import Glibc
import HTTP
import RaftActor
import Testing

@testable import Member

private func snapshot(_ from: MemberID, _ to: MemberID, index: LogIndex) -> Message {
  let metadata = SnapshotMetadata(index: index, term: 3, confState: ConfState(voters: [1, 2]))
  return Message(
    kind: .snapshot, to: to, from: from, term: 3,
    snapshot: Snapshot(metadata: metadata, data: Bytes("{}".utf8)))
}

/// Bytes that repeat at no power of two, so that a misplaced slice shows.
private func content(_ count: Int) -> Bytes {
  Bytes(unsafeUninitializedCapacity: count) { buffer, used in
    var value: UInt32 = 1
    for index in 0..<count {
      value = value &* 1_664_525 &+ 1_013_904_223
      buffer[index] = UInt8(truncatingIfNeeded: value >> 24)
    }
    used = count
  }
}

private func writeFile(_ path: String, _ bytes: Bytes) {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
  defer { close(descriptor) }
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count <= 0 { return }
    rest = rest.dropFirst(count)
  }
}

private func readFile(_ path: String) -> Bytes {
  let descriptor = open(path, O_RDONLY)
  guard descriptor >= 0 else { return [] }
  defer { close(descriptor) }
  var info = stat()
  fstat(descriptor, &info)
  return Bytes(unsafeUninitializedCapacity: Int(info.st_size)) { buffer, used in
    used = 0
    while used < buffer.count {
      let count = read(descriptor, buffer.baseAddress?.advanced(by: used), buffer.count - used)
      if count <= 0 { return }
      used += count
    }
  }
}

extension PeerTransportTests {
  @Suite struct Snapshots {
    @Test(arguments: [true, false])
    func aLargeFileTravelsBothWays(sharedLoop: Bool) throws {
      try withPeers(2, sharedLoop: sharedLoop) { peers in
        let bytes = content(50 << 20)
        for (sender, receiver) in [(peers[0], peers[1]), (peers[1], peers[0])] {
          let path = "\(sender.directory)/outgoing"
          writeFile(path, bytes)
          let message = snapshot(sender.id, receiver.id, index: 0x1f)
          sender.submit(.snapshotFile(to: receiver.id, path: path))
          sender.submit(.send([message, heartbeat(sender.id, receiver.id, 1)]))
          sender.wait("the file is sent", seconds: 20) { $0.snapshotsSent == [true] }
          let arrived = try #require(receiver.news.snapshots.first)
          #expect(arrived.message == message)
          #expect(arrived.path == "\(receiver.directory)/000000000000001f.snap.db")
          #expect(readFile(arrived.path) == bytes)
          #expect(access(path, F_OK) != 0, "the sent file is removed")
          // Messages go past a snapshot under way.
          #expect(receiver.news.received == [heartbeat(sender.id, receiver.id, 1)])
        }
        #expect(files(in: peers[0].directory) == ["000000000000001f.snap.db"])
        #expect(peers[0].news.active == [2: true])
      }
    }

    @Test func anEmptyFileAndAMissingOne() throws {
      try withPeers(2) { peers in
        let path = "\(peers[0].directory)/empty"
        writeFile(path, [])
        peers[0].submit(.snapshotFile(to: 2, path: path))
        peers[0].submit(.send([snapshot(1, 2, index: 5)]))
        peers[0].wait("sent") { $0.snapshotsSent == [true] }
        #expect(peers[1].news.snapshots.count == 1)
        peers[0].submit(.send([snapshot(1, 2, index: 6)]))
        peers[0].wait("no file announced") { $0.snapshotsSent == [true, false] }
        peers[0].submit(.snapshotFile(to: 2, path: "/nonexistent/file"))
        peers[0].submit(.send([snapshot(1, 2, index: 7)]))
        peers[0].wait("no file there") { $0.snapshotsSent == [true, false, false] }
        #expect(files(in: peers[1].directory) == ["0000000000000005.snap.db"])
      }
    }

    @Test func anUnclaimedFileGivesWayToTheNext() throws {
      try withPeers(2) { peers in
        let stale = "\(peers[0].directory)/stale"
        let fresh = "\(peers[0].directory)/fresh"
        writeFile(stale, [1])
        writeFile(fresh, [2, 2])
        peers[0].submit(.snapshotFile(to: 2, path: stale))
        peers[0].submit(.snapshotFile(to: 2, path: fresh))
        peers[0].submit(.send([snapshot(1, 2, index: 8)]))
        peers[0].wait("sent") { $0.snapshotsSent == [true] }
        #expect(readFile("\(peers[1].directory)/0000000000000008.snap.db") == [2, 2])
        #expect(files(in: peers[0].directory).isEmpty)
      }
    }

    @Test func aDownReceiverIsAFailure() throws {
      let peer = try TestPeer(1)
      defer { peer.stop() }
      peer.submit(
        .members([PeerMember(id: 2, urls: ["http://127.0.0.1:\(freePort())"])], removed: []))
      let path = "\(peer.directory)/outgoing"
      writeFile(path, [1, 2, 3])
      peer.submit(.snapshotFile(to: 2, path: path))
      peer.submit(.send([snapshot(1, 2, index: 5)]))
      peer.wait("a failure") { $0.snapshotsSent == [false] }
      #expect(files(in: peer.directory).isEmpty)
    }

    @Test func whatIsNotASnapshotIsRefused() throws {
      try withPeers(2) { peers in
        func post(_ body: Bytes, announced: Int? = nil, expecting end: String) throws -> String {
          let client = try RawClient(peers[0].port)
          client.send(postHead("/raft/snapshot", from: 2, count: announced ?? body.count))
          client.send(body)
          return client.receive(until: end)
        }
        let wrongType = SnapshotHeaderDecoder.encode(heartbeat(2, 1, 1))
        let first = try post(wrongType, announced: 1 << 30, expecting: "type\n")
        #expect(first.hasPrefix("HTTP/1.1 400 "))
        #expect(first.hasSuffix("\r\n\r\nwrong raft message type\n"))
        let second = try post([0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff], expecting: ")\n")
        #expect(second.hasPrefix("HTTP/1.1 400 "))
        #expect(second.contains("\r\n\r\nfailed to decode raft message ("))
        let misdirected = SnapshotHeaderDecoder.encode(snapshot(2, 9, index: 4))
        let third = try post(misdirected, expecting: "message\n")
        #expect(third.hasPrefix("HTTP/1.1 500 "))
        #expect(peers[0].news.snapshots.isEmpty)
        #expect(files(in: peers[0].directory).isEmpty)
      }
    }

    @Test func aFileThatWasChangedOnItsWayIsRefused() throws {
      try withPeers(2) { peers in
        let header = SnapshotHeaderDecoder.encode(snapshot(2, 1, index: 4))
        let body = Bytes(repeating: 7, count: 500)
        let sum = CRC32C.extend(0, body)
        for (said, expected) in [(sum ^ 1, "HTTP/1.1 500 "), (sum, "HTTP/1.1 204 ")] {
          let client = try RawClient(peers[0].port)
          let field = "X-Apus-Snapshot-CRC32C: \(String(said, radix: 16))\r\n"
          client.send(
            postHead(
              "/raft/snapshot", from: 2, count: header.count + body.count, extra: field))
          client.send(header + body)
          #expect(client.receive(until: "\r\n\r\n").hasPrefix(expected))
        }
        #expect(peers[0].news.snapshots.count == 1)
        #expect(files(in: peers[0].directory).count == 1)
      }
    }

    @Test func aFileThatIsCutOffLeavesNothing() throws {
      try withPeers(2) { peers in
        do {
          let client = try RawClient(peers[0].port)
          let header = SnapshotHeaderDecoder.encode(snapshot(2, 1, index: 4))
          client.send(postHead("/raft/snapshot", from: 2, count: header.count + 1000))
          client.send(header + Bytes(repeating: 1, count: 500))
          usleep(50_000)
          #expect(files(in: peers[0].directory).count == 1)
        }
        peers[0].wait("the end") { $0.logged("incoming database snapshot was cut off") == 1 }
        usleep(50_000)
        #expect(files(in: peers[0].directory).isEmpty)
        #expect(peers[0].news.snapshots.isEmpty)
      }
    }
  }
}
