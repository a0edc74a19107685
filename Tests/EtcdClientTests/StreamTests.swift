import Actors
import EtcdAPI
import EtcdClient
import FoundationEssentials
import HTTP
import SwiftProtobuf
import Synchronization
import Testing

private func bytes(_ message: some Message) -> [UInt8] { (try? message.serializedBytes()) ?? [] }

private func created(_ revision: Int64) -> [UInt8] {
  var response = Etcdserverpb_WatchResponse()
  response.created = true
  response.header.revision = revision
  return bytes(response)
}

private func put(_ revision: Int64) -> [UInt8] {
  var response = Etcdserverpb_WatchResponse()
  response.header.revision = revision + 100
  var event = Mvccpb_Event()
  event.kv.modRevision = revision
  response.events = [event]
  return bytes(response)
}

private func startRevision(_ message: [UInt8]) -> Int64 {
  (try? Etcdserverpb_WatchRequest(serializedBytes: message))?.createRequest.startRevision ?? -1
}

@Suite struct StreamTests {
  @Test func aWatchGoesOnAfterTheLastEventWhenItsConnectionBreaks() async throws {
    let starts = Mutex<[Int64]>([])
    let server = try FakeServer { server, call, message in
      let start = startRevision(message)
      starts.withLock { $0.append(start) }
      call.send(message: created(50))
      if start == 3 {
        call.send(message: put(7))
        // The event must be on its way before the connection breaks.
        server.loop.execute { server.loop.execute { server.dropConnections() } }
      } else {
        call.send(message: put(start))
      }
    }
    defer { server.stop() }
    let client = try EtcdClient(endpoints: [server.endpoint])
    var request = Etcdserverpb_WatchCreateRequest()
    request.startRevision = 3
    let stream = try client.watch(request)
    #expect(try await stream.next()?.events.first?.kv.modRevision == 7)
    #expect(try await stream.next()?.events.first?.kv.modRevision == 8)
    #expect(starts.withLock { $0 } == [3, 8])
    stream.cancel()
    #expect(await eventually { server.log.contains("cancelled /etcdserverpb.Watch/Watch") })
  }

  @Test func aWatchFromNowGoesOnAfterItsCreation() async throws {
    let starts = Mutex<[Int64]>([])
    let server = try FakeServer { server, call, message in
      let start = startRevision(message)
      starts.withLock { $0.append(start) }
      call.send(message: created(50))
      if start == 0 {
        server.loop.execute { server.loop.execute { server.dropConnections() } }
      } else {
        call.send(message: put(start))
      }
    }
    defer { server.stop() }
    let client = try EtcdClient(endpoints: [server.endpoint])
    let stream = try client.watch(Etcdserverpb_WatchCreateRequest())
    #expect(try await stream.next()?.events.first?.kv.modRevision == 51)
    #expect(starts.withLock { $0 } == [0, 51])
  }

  @Test func aCancelledWatchEndsAfterTheReason() async throws {
    let server = try FakeServer { _, call, _ in
      call.send(message: created(9))
      var response = Etcdserverpb_WatchResponse()
      response.canceled = true
      response.compactRevision = 5
      call.send(message: bytes(response))
    }
    defer { server.stop() }
    let client = try EtcdClient(endpoints: [server.endpoint])
    var request = Etcdserverpb_WatchCreateRequest()
    request.startRevision = 1
    let stream = try client.watch(request)
    let last = try await stream.next()
    #expect(last?.canceled == true && last?.compactRevision == 5)
    #expect(try await stream.next() == nil)
  }

  @Test func aWatchWithoutLeaderEnds() async throws {
    let server = try FakeServer { _, call, _ in
      #expect(call.metadata("hasleader") == "true")
      call.finish(GRPCStatus(.unavailable, EtcdError.noLeader.message))
    }
    defer { server.stop() }
    let client = try EtcdClient(endpoints: [server.endpoint])
    let stream = try client.watch(Etcdserverpb_WatchCreateRequest(), requireLeader: true)
    await #expect(throws: EtcdClientError.self) { try await stream.next() }
  }

  @Test func cancellingTheReaderEndsTheWatch() async throws {
    let server = try FakeServer { _, call, _ in call.send(message: created(1)) }
    defer { server.stop() }
    let client = try EtcdClient(endpoints: [server.endpoint])
    let stream = try client.watch(Etcdserverpb_WatchCreateRequest())
    let task = Task { try await stream.next() }
    #expect(await eventually { server.log.contains("/etcdserverpb.Watch/Watch") })
    task.cancel()
    await #expect(throws: EtcdClientError(.cancelled, "context canceled")) {
      try await task.value
    }
    #expect(await eventually { server.log.contains("cancelled /etcdserverpb.Watch/Watch") })
  }

  @Test func aSlowReaderGetsEveryChunkOfASnapshotThroughASmallBuffer() async throws {
    let chunks = 600
    let server = try FakeServer { _, call, _ in
      for index in 0..<chunks {
        var response = Etcdserverpb_SnapshotResponse()
        response.remainingBytes = UInt64(chunks - index)
        response.blob = Data(repeating: UInt8(truncatingIfNeeded: index), count: 32 << 10)
        call.send(message: bytes(response))
      }
      call.finish(.ok)
    }
    defer { server.stop() }
    var options = EtcdClientOptions()
    options.streamBufferMax = 4
    let client = try EtcdClient(endpoints: [server.endpoint], options: options)
    let stream = try client.snapshot()
    try await Task.sleep(for: .milliseconds(50))
    var received: [UInt64] = []
    for try await response in stream { received.append(response.remainingBytes) }
    #expect(received == (0..<UInt64(chunks)).map { UInt64(chunks) - $0 })
  }

  @Test func aLeaseIsKeptAliveUntilItIsGone() async throws {
    let answers = Mutex(0)
    let server = try FakeServer { _, call, message in
      let request = try? Etcdserverpb_LeaseKeepAliveRequest(serializedBytes: message)
      let number = answers.withLock { count in
        count += 1
        return count
      }
      var response = Etcdserverpb_LeaseKeepAliveResponse()
      response.id = request?.id ?? 0
      response.ttl = number < 3 ? 1 : 0
      call.send(message: bytes(response))
    }
    defer { server.stop() }
    let client = try EtcdClient(endpoints: [server.endpoint])
    let stream = try client.leaseKeepAlive(id: 77)
    var count = 0
    for try await response in stream {
      #expect(response.id == 77)
      count += 1
    }
    #expect(count == 2)
    await #expect(
      throws: EtcdClientError(.notFound, "etcdserver: requested lease not found")
    ) { try await client.leaseKeepAliveOnce(id: 77) }
  }
}
