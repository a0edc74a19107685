import Actors
import Base
import Glibc
import HTTP
import RaftActor
import Testing

@testable import Member

extension PeerTransportTests {
  @Suite struct OtherRequests {
    @Test func aRequestIsForwardedAndAnswered() throws {
      try withPeers(2) { peers in
        peers[0].submit(.get(id: 5, url: peers[1].member.urls[0], path: "/members?x=1"))
        peers[1].wait("a request") { $0.requests.count == 1 }
        let request = try #require(peers[1].news.requests.first)
        #expect(request.method == "GET")
        #expect(request.path == "/members")
        #expect(request.query == "x=1")
        #expect(request.headers.first("x-etcd-cluster-id") == TestPeer.clusterID.hex)
        peers[1].transport.respond(
          id: request.id, status: 200, headers: [HTTPField("Content-Type", "application/json")],
          body: Bytes("[]\n".utf8))
        peers[0].wait("a response") { $0.responses[5] != nil }
        let response = try #require(try peers[0].news.responses[5]?.get())
        #expect(response.status == 200)
        #expect(response.body == Bytes("[]\n".utf8))
        #expect(response.headers.first("content-type") == "application/json")
      }
    }

    @Test func postsGoToAMember() throws {
      try withPeers(2) { peers in
        for id in 1...3 as ClosedRange<UInt64> {
          peers[0].submit(
            .post(
              id: id, to: 2, path: "/leases", body: [8, UInt8(id)],
              contentType: "application/protobuf", headers: [HTTPField("Authorization", "t")]))
        }
        peers[0].submit(.post(id: 9, to: 77, path: "/leases", body: [], contentType: "x"))
        peers[1].wait("requests") { $0.requests.count == 3 }
        for request in peers[1].news.requests.reversed() {
          #expect(request.headers.first("authorization") == "t")
          peers[1].transport.respond(id: request.id, status: 404, headers: [], body: request.body)
        }
        peers[0].wait("responses") { $0.responses.count == 4 }
        for id in 1...3 as ClosedRange<UInt64> {
          let response = try #require(try peers[0].news.responses[id]?.get())
          #expect(response.status == 404)
          #expect(response.body == [8, UInt8(id)])
        }
        #expect(peers[0].news.responses[9] == .failure(.unknownMember(77)))
      }
    }

    @Test func anUnreachableURLFails() throws {
      let peer = try TestPeer(1)
      defer { peer.stop() }
      peer.submit(.get(id: 1, url: "http://127.0.0.1:\(freePort())", path: "/version"))
      peer.submit(.get(id: 2, url: "nonsense", path: "/version"))
      peer.wait("both") { $0.responses.count == 2 }
      #expect(peer.news.responses[2] == .failure(.badURL("nonsense")))
      guard case .failure(.connection(let text)) = peer.news.responses[1] else {
        Issue.record("connected to nobody")
        return
      }
      #expect(text.hasSuffix("connect: connection refused"))
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() throws {
      let peer = try TestPeer(1)
      defer { peer.stop() }
      let client = try RawClient(peer.port)
      client.send(
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
          + "GET /raft/probing HTTP/1.1\r\nHost: x\r\n\r\n")
      peer.wait("two requests") { $0.requests.count == 2 }
      for request in peer.news.requests.reversed() {
        peer.transport.respond(
          id: request.id, status: 200, headers: [], body: Bytes("<\(request.path)>".utf8))
      }
      let text = client.receive(until: "\"Now\"")
      let first = try #require(text.firstRange(of: "</a>"))
      let second = try #require(text.firstRange(of: "</b>"))
      let third = try #require(text.firstRange(of: "{\"OK\":true,\"Now\":\"20"))
      #expect(first.upperBound <= second.lowerBound && second.upperBound <= third.lowerBound)
      // The connection goes on.
      client.send("PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
      peer.wait("a third") { $0.requests.count == 3 }
      #expect(peer.news.requests.last?.body == Bytes("abc".utf8))
    }

    @Test func bodiesAreBoundedAndContinueIsSent() throws {
      let peer = try TestPeer(1, adjust: { $0.requestBodyBytesMax = 100 })
      defer { peer.stop() }
      let client = try RawClient(peer.port)
      client.send(
        "POST /leases HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
      #expect(client.receive(until: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
      client.send("abcd")
      peer.wait("the request") { $0.requests.count == 1 }
      #expect(peer.news.requests.first?.body == Bytes("abcd".utf8))

      let greedy = try RawClient(peer.port)
      greedy.send("POST /leases HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n")
      greedy.send(Bytes(repeating: 65, count: 101))
      let text = greedy.receive(until: "large\n")
      #expect(text.hasPrefix("HTTP/1.1 413 "))
      #expect(text.contains("Connection: close\r\n"))
      #expect(greedy.isAtEnd())
      #expect(peer.news.requests.count == 1)
    }

    @Test(arguments: [
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\u{0}", "hello\r\n\r\n",
    ])
    func whatIsNotHTTP1IsClosed(garbage: String) throws {
      let peer = try TestPeer(1)
      defer { peer.stop() }
      let client = try RawClient(peer.port)
      client.send(garbage)
      #expect(client.isAtEnd())
    }

    @Test func probesMeasureTheRoundTrip() throws {
      try withPeers(2) { peers in
        peers[0].wait("a probe") { $0.roundTrips >= 1 }
      }
    }
  }

  @Suite struct StreamOverload {
    /// A member that does not read, then reads again: what it gets is correct, though not all.
    @Test func aFullStreamDropsAndStartsAfresh() throws {
      let peer = try TestPeer(1, adjust: { $0.streamQueueBytesMax = 2 << 20 })
      defer { peer.stop() }
      peer.submit(
        .members([PeerMember(id: 2, urls: ["http://127.0.0.1:\(freePort())"])], removed: []))
      let client = try RawClient(peer.port)
      client.send(streamRequest(from: 2, to: 1))
      peer.wait("the stream") { $0.writersAttached == 1 }
      var sent: [Message] = []
      for number in 0..<200 as Range<UInt64> {
        let message = append(1, 2, 2 * number, bytes: 100 << 10)
        sent.append(message)
        peer.submit(.send([message]))
      }
      peer.wait("a drop") { $0.unreachable == [2] }
      let received = try readAppends(from: client, peer: peer, last: append(1, 2, 1000))
      #expect(received.count < sent.count)
      #expect(received.count > 10)
      let known = Dictionary(uniqueKeysWithValues: sent.map { ($0.index, $0) })
      for message in received.dropLast() { #expect(message == known[message.index]) }
      #expect(received.last == append(1, 2, 1000))
    }

    @Test func aStreamThatIsReplacedIsALoss() throws {
      try withPeers(2) { peers in
        let usurper = try RawClient(peers[0].port)
        usurper.send(streamRequest(from: 2, to: 1))
        #expect(usurper.receive(until: "\r\n\r\n").hasPrefix("HTTP/1.1 200 OK\r\n"))
        peers[0].wait("a report") { $0.unreachable == [2] }
        // The member whose stream was closed opens it again.
        peers[0].wait("the stream") { $0.writersAttached >= 4 }
        #expect(usurper.isAtEnd())
        peers[0].submit(.send([append(1, 2, 4)]))
        peers[1].wait("an append") { $0.received == [append(1, 2, 4)] }
      }
    }

    private func streamRequest(from: MemberID, to: MemberID) -> String {
      "GET /raft/stream/msgapp/\(from.hex) HTTP/1.1\r\nHost: x\r\nX-Server-Version: 3.7.1\r\n"
        + "X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: \(TestPeer.clusterID.hex)\r\n"
        + "X-Raft-To: \(to.hex)\r\n\r\n"
    }

    /// Reads until `last` has come. It is sent again while the stream falls silent without it: the
    /// queue may have been full when it was offered.
    private func readAppends(
      from client: RawClient, peer: TestPeer, last: Message
    ) throws -> [Message] {
      let codec = HTTP1ClientCodec()
      var decoder = MsgAppV2Decoder(local: 2, remote: 1)
      var received: [Message] = []
      var failure: (any Error)?
      var total = 0
      var offers = 0
      while received.last != last {
        guard let bytes = client.receive(), !bytes.isEmpty else { throw SetupError() }
        let reachesMiddle = total < 1 << 20 && total + bytes.count >= 1 << 20
        total += bytes.count
        if reachesMiddle || (total >= 1 << 20 && bytes.count < 1024) {
          offers += 1
          guard offers < 100 else { throw SetupError() }
          peer.submit(.send([last]))
        }
        try bytes.withUnsafeBytes { buffer in
          try codec.receive(buffer) { event in
            guard case .body(let body) = event else { return }
            do {
              try decoder.feed(body) { if $0 != received.last { received.append($0) } }
            } catch { failure = error }
          }
        }
        if let failure { throw failure }
      }
      return received
    }
  }
}
