import Actors
import Base
import HTTP
import Testing

@testable import Member

@Suite struct PeerRouterTests {
  private let router = PeerRouter(id: 0xab, clusterID: 0xc1, version: PeerVersion(3, 7, 1))

  private func decide(
    _ method: String, _ target: String, _ changes: [String: String?] = [:]
  ) -> PeerDecision {
    var fields = [
      ("X-Server-From", "2"), ("X-Server-Version", "3.7.1"), ("X-Min-Cluster-Version", "3.0.0"),
      ("X-Etcd-Cluster-Id", "c1"), ("X-Raft-To", "ab"), ("X-Peerurls", "http://a:1,http://b:2"),
    ]
    for (name, value) in changes {
      fields.removeAll { $0.0 == name }
      if let value { fields.append((name, value)) }
    }
    let headers = HTTP1Headers(fields.map { HTTPField($0.0, $0.1) })
    return router.decide(HTTP1RequestHead(method: method, target: target, headers: headers)) {
      $0 == 2 ? .member : $0 == 3 ? .removed : .unknown
    }
  }

  private func refusal(
    _ method: String, _ target: String, _ changes: [String: String?] = [:]
  ) -> String? {
    guard case .refuse(let refusal) = decide(method, target, changes).route else { return nil }
    return "\(refusal.status) \(refusal.text)"
  }

  @Test func goodRequestsAreRouted() {
    #expect(decide("GET", "/raft/stream/message/2").route == .stream(.message, from: 2))
    #expect(decide("GET", "/raft/stream/msgapp/2").route == .stream(.msgapp, from: 2))
    #expect(decide("POST", "/raft").route == .message)
    #expect(decide("POST", "/raft/snapshot").route == .snapshot)
    #expect(decide("GET", "/raft/probing").route == .probing)
    #expect(decide("GET", "/members").route == .other)
    #expect(decide("GET", "/raft/other").route == .other)
  }

  @Test func refusalsComeInOrder() {
    let stream = "/raft/stream/message/2"
    #expect(refusal("POST", stream, ["X-Server-Version": "1.0.0"]) == "405 Method Not Allowed")
    #expect(refusal("GET", "/raft") == "405 Method Not Allowed")
    #expect(refusal("GET", "/raft/snapshot") == "405 Method Not Allowed")
    let both = ["X-Server-Version": "2.3.8", "X-Etcd-Cluster-Id": "c2"]
    #expect(refusal("GET", stream, both) == "412 incompatible version")
    #expect(refusal("GET", stream, ["X-Server-Version": nil]) == "412 incompatible version")
    #expect(refusal("GET", stream, ["X-Server-Version": "3.x"]) == "412 incompatible version")
    #expect(
      refusal("POST", "/raft", ["X-Min-Cluster-Version": "3.8.0"]) == "412 incompatible version")
    #expect(refusal("POST", "/raft", ["X-Min-Cluster-Version": "3.7.9"]) == nil)
    let wrongCluster: [String: String?] = ["X-Etcd-Cluster-Id": "c2", "X-Raft-To": "1"]
    #expect(refusal("GET", "/raft/stream/x/zz", wrongCluster) == "412 cluster ID mismatch")
    #expect(refusal("POST", "/raft", ["X-Etcd-Cluster-Id": nil]) == "412 cluster ID mismatch")
    #expect(refusal("GET", "/raft/stream/x/2") == "404 invalid path")
    #expect(refusal("GET", "/raft/stream/message/2/3") == "404 invalid path")
    #expect(refusal("GET", "/raft/stream/message/zz") == "404 invalid from")
    #expect(refusal("GET", "/raft/stream/message/3", ["X-Raft-To": "1"]) == "410 removed member")
    #expect(refusal("GET", "/raft/stream/message/4") == "404 error sender not found")
    #expect(refusal("GET", stream, ["X-Raft-To": "ac"]) == "412 to field mismatch")
    #expect(refusal("GET", stream, ["X-Raft-To": nil]) == "412 to field mismatch")
  }

  @Test func sendersAreRemembered() {
    let urls = ["http://a:1", "http://b:2"]
    #expect(decide("POST", "/raft").remember == PeerSender(id: 2, urls: urls))
    #expect(
      decide("GET", "/raft/stream/message/4").remember == PeerSender(id: 4, urls: urls))
    #expect(decide("POST", "/raft", ["X-Etcd-Cluster-Id": "c2"]).remember == nil)
    #expect(decide("POST", "/raft", ["X-Peerurls": nil]).remember == nil)
    #expect(decide("GET", "/raft/stream/message/3").remember == nil)
  }

  @Test func versions() {
    #expect(PeerVersion("3.7.1") == PeerVersion(3, 7, 1))
    #expect(PeerVersion("3.6.0-rc.1+git") == PeerVersion(3, 6, 0))
    for bad in ["", "3", "3.7", "3.7.1.2", "a.b.c", "3.7.-1", "+3.7.1", "3..1"] {
      #expect(PeerVersion(bad) == nil)
    }
  }

  @Test func urls() {
    #expect(PeerURL("http://10.0.0.1:2380/")?.authority == "10.0.0.1:2380")
    #expect(PeerURL("http://[::1]:2380")?.address == .tcp(host: "::1", port: 2380))
    #expect(PeerURL("https://[::1]:2380")?.isSecure == true)
    #expect(PeerURL("https://a:2380")?.host == "a" && PeerURL("http://a:1")?.isSecure == false)
    for bad in ["ftp://a:1", "http://a", "http://:1", "http://a:0", "http://a:1/x", "a:1"] {
      #expect(PeerURL(bad) == nil)
    }
    let addresses = PeerAddresses(["http://a:1", "nonsense", "http://b:2"])
    let first = addresses.current
    #expect(first?.authority == "a:1")
    if let first {
      addresses.failed(first)
      #expect(addresses.current?.authority == "b:2")
      // A second one that failed with the same URL does not skip the next.
      addresses.failed(first)
      #expect(addresses.current?.authority == "b:2")
    }
  }
}
