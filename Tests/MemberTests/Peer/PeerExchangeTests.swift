import Actors
import Base
import Glibc
import HTTP
import RaftActor
import Testing

@testable import Member

/// The sockets of all of these share the machine: one at a time keeps the timing honest.
@Suite(.serialized) enum PeerTransportTests {}

func heartbeat(_ from: MemberID, _ to: MemberID, _ number: UInt64) -> Message {
  Message(kind: .heartbeat, to: to, from: from, term: 7, commit: number)
}

/// An append of two entries behind `index`.
func append(_ from: MemberID, _ to: MemberID, _ index: LogIndex, bytes: Int = 20) -> Message {
  let entries = (1...2).map { offset in
    Entry(term: 7, index: index + UInt64(offset), data: Bytes(repeating: 9, count: bytes))
  }
  return Message(
    kind: .append, to: to, from: from, term: 7, logTerm: 7, index: index, entries: entries,
    commit: index)
}

extension PeerTransportTests {
  @Suite struct Exchange {
    @Test(arguments: [true, false])
    func twoMembersKeepTheOrderOfEachStream(sharedLoop: Bool) throws {
      try withPeers(2, sharedLoop: sharedLoop) { peers in
        let heartbeats = (0..<500).map { heartbeat(1, 2, $0) }
        let appends = (0..<300).map { append(1, 2, 10 + 2 * UInt64($0)) }
        for start in stride(from: 0, to: 300, by: 20) {
          peers[0].submit(.send(Array(appends[start..<start + 20])))
          peers[0].submit(.send(Array(heartbeats[start..<start + 20])))
        }
        peers[0].submit(.send(Array(heartbeats[300...])))
        peers[1].wait("800 messages") { $0.received.count >= 800 }
        let received = peers[1].news.received
        #expect(received.filter { $0.kind == .heartbeat } == heartbeats)
        #expect(received.filter { $0.kind == .append } == appends)
        // Short frames, not full messages: the two ends agree on the stream's state.
        #expect(peers[0].news.sentBytes < 300 * 100 + 500 * 40)
        #expect(peers[0].news.unreachable.isEmpty)
        #expect(peers[0].news.active == [2: true])
      }
    }

    @Test func threeMembersReachEachOther() throws {
      try withPeers(3) { peers in
        for peer in peers {
          let others = peers.map(\.id).filter { $0 != peer.id }
          peer.submit(.send(others.map { heartbeat(peer.id, $0, peer.id) }))
        }
        for peer in peers {
          peer.wait("both others") { Set($0.received.map(\.from)).count == 2 }
        }
      }
    }

    @Test func aLargeAppendArrivesWhole() throws {
      try withPeers(2) { peers in
        let messages = [append(1, 2, 5, bytes: 3 << 20), append(1, 2, 7, bytes: 1 << 20)]
        peers[0].submit(.send(messages))
        peers[1].wait("two appends") { $0.received.count == 2 }
        #expect(peers[1].news.received == messages)
      }
    }

    @Test func aRestartedMemberIsFoundAgain() throws {
      let first = try TestPeer(1)
      defer { first.stop() }
      var second = try TestPeer(2)
      let port = second.port
      first.join([second])
      second.join([first])
      first.wait("streams") { $0.writersAttached == 2 }
      second.stop()
      first.wait("the loss") { $0.active[2] == false && $0.unreachable == [2] }
      first.submit(.send((0..<100).map { heartbeat(1, 2, $0) }))

      second = try TestPeer(2, port: port)
      defer { second.stop() }
      second.join([first])
      first.wait("streams again") { $0.writersAttached == 4 && $0.active[2] == true }
      first.submit(.send([append(1, 2, 30), heartbeat(1, 2, 500)]))
      second.wait("messages") { $0.received.contains(heartbeat(1, 2, 500)) }
      second.wait("the append") { $0.received.contains(append(1, 2, 30)) }
      // Once for the streams; a down member's messages add nothing.
      #expect(first.news.unreachable.count <= 2)
    }

    @Test func linkHeartbeatsKeepIdleStreamsOpenAndStayBelowRaft() throws {
      try withPeers(2, adjust: { $0.streamTimeoutMilliseconds = 2200 }) { peers in
        usleep(2_800_000)
        #expect(peers[0].news.received.isEmpty)
        #expect(peers[0].news.writersAttached == 2)
        #expect(peers[0].news.active == [2: true])
        #expect(peers[1].news.receivedBytes > 0)
      }
    }

    @Test func aSenderThatIsNotAMemberIsAnsweredByPost() throws {
      let member = try TestPeer(1)
      let newcomer = try TestPeer(2)
      defer {
        member.stop()
        newcomer.stop()
      }
      newcomer.join([member])
      // Its streams are refused, for the member does not know it; POST gets through.
      usleep(150_000)
      newcomer.submit(.send([heartbeat(2, 1, 1), append(2, 1, 4)]))
      member.wait("posts") { $0.received.count == 2 }
      member.submit(.send([heartbeat(1, 2, 2)]))
      newcomer.wait("an answer") { $0.received == [heartbeat(1, 2, 2)] }
      #expect(member.news.writersAttached == 0)
    }

    @Test func messagesForOthersAreNotDelivered() throws {
      try withPeers(2) { peers in
        let body = heartbeat(2, 9, 1).encoded()
        let client = try RawClient(peers[0].port)
        client.send(postHead("/raft", from: 2, count: body.count))
        client.send(body)
        let answer = client.receive(until: "message\n")
        #expect(answer.hasPrefix("HTTP/1.1 500 "))
        #expect(answer.hasSuffix("\r\n\r\nerror processing raft message\n"))
        #expect(peers[0].news.received.isEmpty)
      }
    }

    @Test func anAbsentMemberIsReportedOnceAndCostsNoMemory() throws {
      let peer = try TestPeer(1)
      defer { peer.stop() }
      peer.submit(
        .members([PeerMember(id: 2, urls: ["http://127.0.0.1:\(freePort())"])], removed: []))
      usleep(250_000)
      for _ in 0..<20 {
        peer.submit(.send((0..<1000).map { heartbeat(1, 2, $0) }))
      }
      peer.wait("a report") { $0.unreachable == [2] }
      usleep(100_000)
      #expect(peer.news.unreachable == [2])
    }
  }

  @Suite struct Membership {
    @Test func aRemovedMemberIsToldSo() throws {
      try withPeers(2) { peers in
        peers[0].join([peers[0]], removed: [2])
        // Its streams stay for a moment, so that it can learn of its removal.
        peers[0].submit(.send([heartbeat(1, 2, 99)]))
        peers[1].wait("the last message") { $0.received.contains(heartbeat(1, 2, 99)) }
        peers[1].wait("the removal", seconds: 4) { $0.removed == 1 }
        peers[0].wait("the end") { $0.logged("removed remote peer") == 1 }
        #expect(peers[0].news.active[2] == false)
      }
    }

    @Test func aMemberOfAnotherClusterIsRefused() throws {
      let first = try TestPeer(1)
      let second = try TestPeer(2, clusterID: 0xdead)
      defer {
        first.stop()
        second.stop()
      }
      first.join([second])
      second.join([first])
      let text = "request sent was ignored by remote peer due to cluster ID mismatch"
      first.wait("a refusal") { $0.logged(text) == 1 }
      second.wait("a refusal") { $0.logged(text) == 1 }
      usleep(400_000)
      // Tried ten times a second, said at a bounded rate.
      #expect(first.news.logged(text) == 1)
      #expect(first.news.writersAttached == 0)
    }

    @Test func aNewURLIsUsed() throws {
      let first = try TestPeer(1)
      let second = try TestPeer(2)
      defer {
        first.stop()
        second.stop()
      }
      let dead = "http://127.0.0.1:\(freePort())"
      first.submit(.members([PeerMember(id: 2, urls: [dead])], removed: []))
      second.join([first])
      first.wait("the other's streams") { $0.writersAttached == 2 }
      #expect(second.news.writersAttached == 0)
      first.submit(.members([PeerMember(id: 2, urls: [dead, second.member.urls[0]])], removed: []))
      second.wait("streams") { $0.writersAttached == 2 }
    }
  }
}

/// The head of a raft POST from a member of the test cluster.
func postHead(
  _ path: String, from: MemberID, count: Int, extra: String = "",
  clusterID: ClusterID = TestPeer.clusterID
) -> String {
  "POST \(path) HTTP/1.1\r\nHost: x\r\nX-Server-From: \(from.hex)\r\nX-Server-Version: 3.7.1\r\n"
    + "X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: \(clusterID.hex)\r\n\(extra)"
    + "Content-Length: \(count)\r\n\r\n"
}
