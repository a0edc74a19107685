import EtcdAPI
import EtcdClient
import FoundationEssentials
import HTTP
import SwiftProtobuf
import Synchronization
import Testing

private func bytes(_ message: some Message) -> [UInt8] { (try? message.serializedBytes()) ?? [] }

private func rangeResponse(_ revision: Int64) -> [UInt8] {
  var response = Etcdserverpb_RangeResponse()
  response.header.revision = revision
  return bytes(response)
}

private func client(_ servers: FakeServer...) throws -> EtcdClient {
  try EtcdClient(endpoints: servers.map(\.endpoint))
}

private func failure(_ body: () async throws(EtcdClientError) -> Void) async -> EtcdClientError? {
  do throws(EtcdClientError) {
    try await body()
    return nil
  } catch {
    return error
  }
}

@Suite struct UnaryTests {
  @Test func aCallReturnsTheAnswer() async throws {
    let server = try FakeServer { _, call, message in
      let request = try? Etcdserverpb_RangeRequest(serializedBytes: message)
      call.reply(message: rangeResponse(request?.revision ?? -1))
    }
    defer { server.stop() }
    let client = try client(server)
    var request = Etcdserverpb_RangeRequest()
    request.revision = 42
    #expect(try await client.range(request).header.revision == 42)
    #expect(server.log == ["connect", "/etcdserverpb.KV/Range"])
  }

  @Test func errorsKeepCodeAndText() async throws {
    let server = try FakeServer { _, call, _ in
      call.finish(GRPCStatus(.outOfRange, EtcdError.compacted.message))
    }
    defer { server.stop() }
    let client = try client(server)
    let error = await failure { () async throws(EtcdClientError) in
      _ = try await client.range(Etcdserverpb_RangeRequest())
    }
    #expect(error?.code == .outOfRange)
    #expect(error?.matches(.compacted) == true)
    #expect(error?.description == "etcdserver: mvcc: required revision has been compacted")
    #expect(
      EtcdClientError(.unknown, "raft proposal dropped").description
        == "rpc error: code = Unknown desc = raft proposal dropped")
  }

  @Test func readsAreRepeatedWhenUnavailableAndChangesAreNot() async throws {
    let answers = Mutex(0)
    let server = try FakeServer { _, call, _ in
      let number = answers.withLock { count in
        count += 1
        return count
      }
      if call.path == "/etcdserverpb.KV/Range", number >= 3 {
        return call.reply(message: rangeResponse(7))
      }
      call.finish(GRPCStatus(.unavailable, EtcdError.leaderChanged.message))
    }
    defer { server.stop() }
    let client = try client(server)
    #expect(try await client.range(Etcdserverpb_RangeRequest()).header.revision == 7)
    #expect(server.log.filter { $0.hasSuffix("Range") }.count == 3)
    let error = await failure { () async throws(EtcdClientError) in
      _ = try await client.put(Etcdserverpb_PutRequest())
    }
    #expect(error?.message == EtcdError.leaderChanged.message)
    #expect(server.log.filter { $0.hasSuffix("Put") }.count == 1)
  }

  @Test func aChangeIsNotRepeatedWhenTheConnectionBreaks() async throws {
    let server = try FakeServer { server, _, _ in server.dropConnections() }
    defer { server.stop() }
    let client = try client(server)
    let error = await failure { () async throws(EtcdClientError) in
      _ = try await client.put(Etcdserverpb_PutRequest())
    }
    #expect(error?.code == .unavailable)
    #expect(server.log.filter { $0 == "/etcdserverpb.KV/Put" }.count == 1)
  }

  @Test func aDeadEndpointIsPassedOver() async throws {
    let server = try FakeServer { _, call, _ in call.reply(message: rangeResponse(1)) }
    defer { server.stop() }
    let client = try EtcdClient(
      endpoints: [try Endpoint("127.0.0.1:1"), server.endpoint, try Endpoint("127.0.0.1:2")])
    for _ in 0..<3 { _ = try await client.range(Etcdserverpb_RangeRequest()) }
    #expect(server.log.filter { $0 == "connect" }.count == 1)
  }

  @Test func readsMoveToAnotherMemberWhenOneBreaks() async throws {
    let bad = try FakeServer { server, _, _ in server.dropConnections() }
    let good = try FakeServer { _, call, _ in call.reply(message: rangeResponse(5)) }
    defer {
      bad.stop()
      good.stop()
    }
    let client = try client(bad, good)
    for _ in 0..<4 {
      #expect(try await client.range(Etcdserverpb_RangeRequest()).header.revision == 5)
    }
  }

  @Test func theTimeLimitHoldsWithAndWithoutAConnection() async throws {
    let server = try FakeServer { _, _, _ in }
    defer { server.stop() }
    let client = try EtcdClient(endpoints: [server.endpoint])
    let limit = CallOptions(timeout: .after(.milliseconds(60)))
    let unanswered = await failure { () async throws(EtcdClientError) in
      _ = try await client.range(Etcdserverpb_RangeRequest(), limit)
    }
    #expect(unanswered?.description == "context deadline exceeded")
    #expect(await eventually { server.log.contains("cancelled /etcdserverpb.KV/Range") })
    let nowhere = try EtcdClient(endpoints: [try Endpoint("127.0.0.1:1")])
    let unconnected = await failure { () async throws(EtcdClientError) in
      _ = try await nowhere.range(Etcdserverpb_RangeRequest(), limit)
    }
    #expect(unconnected?.description == "context deadline exceeded")
    #expect(unconnected?.connectionError?.contains("connection refused") == true)
  }

  @Test func cancellingTheTaskCancelsTheCall() async throws {
    let server = try FakeServer { _, _, _ in }
    defer { server.stop() }
    let client = try client(server)
    let task = Task {
      await failure { () async throws(EtcdClientError) in
        _ = try await client.range(
          Etcdserverpb_RangeRequest(), CallOptions(timeout: .never))
      }
    }
    #expect(await eventually { server.log.contains("/etcdserverpb.KV/Range") })
    task.cancel()
    #expect(await task.value?.description == "context canceled")
    #expect(await eventually { server.log.contains("cancelled /etcdserverpb.KV/Range") })
  }

  @Test func aCallWaitsForAServerThatComesLater() async throws {
    let first = try FakeServer { _, _, _ in }
    let port = first.port
    first.stop()
    let client = try EtcdClient(endpoints: [try Endpoint("127.0.0.1:\(port)")])
    async let answer = client.range(Etcdserverpb_RangeRequest())
    try await Task.sleep(for: .milliseconds(30))
    let server = try FakeServer(port: port) { _, call, _ in
      call.reply(message: rangeResponse(9))
    }
    defer { server.stop() }
    #expect(try await answer.header.revision == 9)
  }

  @Test func aClosedClientRefusesAndEndsWhatIsOpen() async throws {
    let server = try FakeServer { _, _, _ in }
    defer { server.stop() }
    let client = try client(server)
    let task = Task {
      await failure { () async throws(EtcdClientError) in
        _ = try await client.range(Etcdserverpb_RangeRequest(), CallOptions(timeout: .never))
      }
    }
    #expect(await eventually { server.log.count == 2 })
    client.close()
    #expect(await task.value?.code == .cancelled)
    let late = await failure { () async throws(EtcdClientError) in
      _ = try await client.range(Etcdserverpb_RangeRequest())
    }
    #expect(late?.message == "the client is closed")
  }

  @Test func tooLargeARequestIsNotSent() async throws {
    var options = EtcdClientOptions()
    options.sendMessageBytesMax = 100
    let client = try EtcdClient(endpoints: [try Endpoint("127.0.0.1:1")], options: options)
    var request = Etcdserverpb_PutRequest()
    request.value = Data(repeating: 1, count: 200)
    let wanted = request
    let error = await failure { () async throws(EtcdClientError) in
      _ = try await client.put(wanted)
    }
    #expect(
      error?.description
        == "rpc error: code = ResourceExhausted desc = trying to send message larger than max "
        + "(203 vs. 100)")
  }
}

@Suite struct EndpointTests {
  @Test(arguments: [
    ("127.0.0.1:2379", "127.0.0.1:2379"), ("http://host:1", "host:1"), ("[::1]:5", "[::1]:5"),
    ("http://h:7/path", "h:7"), ("unix:/a/b", "/a/b"), ("unix:///a/b", "/a/b"),
    ("unix:rel", "rel"), (":2379", "127.0.0.1:2379"), ("https://h:7", "h:7"),
    ("unixs:///a/b", "/a/b"),
  ])
  func formsOfEndpoints(_ text: String, _ address: String) throws {
    let endpoint = try Endpoint(text)
    #expect("\(endpoint.address)" == address)
    #expect(endpoint.description == text)
  }

  @Test func theSchemeDecidesOnTLS() throws {
    #expect(try Endpoint("https://h:1").isSecure == true)
    #expect(try Endpoint("unixs:/x").isSecure == true)
    #expect(try Endpoint("http://h:1").isSecure == false)
    #expect(try Endpoint("h:1").isSecure == nil && Endpoint("unix:/x").isSecure == nil)
    #expect(try Endpoint("https://[::1]:1").serverName == "::1")
    #expect(try Endpoint("unixs:///a/b.sock").serverName == "b.sock")
  }

  @Test(arguments: ["host", "host:", "host:99999", "a:b:1", "https://h", "unixs:", "unix:"])
  func refusedEndpoints(_ text: String) {
    #expect(throws: EtcdClientError.self) { try Endpoint(text) }
  }
}
