import EtcdAPI
import EtcdClient
import FoundationEssentials
import HTTP
import SwiftProtobuf
import Synchronization
import Testing

private func bytes(_ message: some Message) -> [UInt8] { (try? message.serializedBytes()) ?? [] }

private func client(_ server: FakeServer, password: String = "secret") throws -> EtcdClient {
  var options = EtcdClientOptions()
  options.identity = .password(user: "u", password: password)
  return try EtcdClient(endpoints: [server.endpoint], options: options)
}

/// A member with authentication: the tokens `t1`, `t2`, ... are given out in turn, only the last is good.
private func securedServer() throws -> FakeServer {
  let issued = Mutex(0)
  return try FakeServer { server, call, message in
    if call.path == "/etcdserverpb.Auth/Authenticate" {
      let request = try? Etcdserverpb_AuthenticateRequest(serializedBytes: message)
      guard request?.name == "u", request?.password == "secret" else {
        return call.finish(GRPCStatus(.invalidArgument, EtcdError.authFailed.message))
      }
      let number = issued.withLock { count in
        count += 1
        return count
      }
      return call.reply(
        message: bytes(Etcdserverpb_AuthenticateResponse.with { $0.token = "t\(number)" }))
    }
    let token = call.metadata("token")
    server.note("token \(token ?? "-")")
    let good = issued.withLock { "t\($0)" }
    guard token == good else {
      let error = token == nil ? EtcdError.userEmpty : .invalidAuthToken
      let code: GRPCStatus.Code = token == nil ? .invalidArgument : .unauthenticated
      return call.finish(GRPCStatus(code, error.message))
    }
    // This token has been used up.
    if server.log.filter({ $0 == "token t1" }).count == 2 { issued.withLock { $0 += 1 } }
    call.reply(message: bytes(Etcdserverpb_PutResponse()))
  }
}

private func failure(_ body: () async throws(EtcdClientError) -> Void) async -> EtcdClientError? {
  do throws(EtcdClientError) {
    try await body()
    return nil
  } catch {
    return error
  }
}

@Suite struct AuthTests {
  @Test func aRefusedTokenIsReplacedAndTheCallRepeated() async throws {
    let server = try securedServer()
    defer { server.stop() }
    let client = try client(server)
    for _ in 0..<3 { _ = try await client.put(Etcdserverpb_PutRequest()) }
    // None at first, then t1 twice, then one that is not good any more, and its successor.
    #expect(
      server.log.filter { $0.hasPrefix("token") }
        == ["token -", "token t1", "token t1", "token t1", "token t3"])
  }

  @Test func callsThatFailTogetherLogInOnce() async throws {
    let server = try securedServer()
    defer { server.stop() }
    let client = try client(server)
    try await client.logIn(timeout: .seconds(5))
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<5 {
        group.addTask { _ = try? await client.put(Etcdserverpb_PutRequest()) }
      }
    }
    #expect(server.log.filter { $0.hasSuffix("Authenticate") }.count <= 3)
  }

  @Test func aWrongPasswordIsTold() async throws {
    let server = try securedServer()
    defer { server.stop() }
    let client = try client(server, password: "wrong")
    let login = await failure { () async throws(EtcdClientError) in
      try await client.logIn(timeout: .seconds(5))
    }
    #expect(login?.matches(.authFailed) == true)
    // What the call itself was told.
    let call = await failure { () async throws(EtcdClientError) in
      _ = try await client.put(Etcdserverpb_PutRequest())
    }
    #expect(call?.matches(.userEmpty) == true)
  }

  @Test func withoutAuthenticationThereIsNoToken() async throws {
    let server = try FakeServer { server, call, _ in
      if call.path == "/etcdserverpb.Auth/Authenticate" {
        return call.finish(
          GRPCStatus(.failedPrecondition, EtcdError.authNotEnabled.message))
      }
      server.note("token \(call.metadata("token") ?? "-")")
      call.reply(message: bytes(Etcdserverpb_PutResponse()))
    }
    defer { server.stop() }
    let client = try client(server)
    try await client.logIn(timeout: .seconds(5))
    _ = try await client.put(Etcdserverpb_PutRequest())
    #expect(server.log.filter { $0.hasPrefix("token") } == ["token -"])
  }

  @Test func aRefusedWatchIsCreatedAnew() async throws {
    let server = try FakeServer { server, call, _ in
      if call.path == "/etcdserverpb.Auth/Authenticate" {
        return call.reply(
          message: bytes(Etcdserverpb_AuthenticateResponse.with { $0.token = "t" }))
      }
      var response = Etcdserverpb_WatchResponse()
      response.created = true
      if call.metadata("token") != "t" {
        response.canceled = true
        response.watchID = -1
        response.cancelReason =
          "rpc error: code = InvalidArgument desc = \(EtcdError.userEmpty.message)"
        return call.send(message: bytes(response))
      }
      call.send(message: bytes(response))
      var event = Etcdserverpb_WatchResponse()
      event.events = [.with { $0.kv.modRevision = 5 }]
      call.send(message: bytes(event))
    }
    defer { server.stop() }
    let client = try client(server)
    let watch = try client.watch(Etcdserverpb_WatchCreateRequest.with { $0.key = Data("k".utf8) })
    #expect(try await watch.next()?.events.first?.kv.modRevision == 5)
    watch.cancel()
  }
}
