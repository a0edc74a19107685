import Base
import EtcdAPI
import FoundationEssentials
import Glibc
import RaftActor
import Simulation
import StoreActor
import SwiftProtobuf

/// Log segments.
struct WALTarget: FuzzTarget {
  static let name = "wal"
  private static let directory = "/wal"

  private static var options: WriteAheadLog.Options {
    var options = WriteAheadLog.Options()
    options.segmentBytes = 2_048
    options.slackBytes = 512
    options.firstFillBytes = 1_024
    options.unsyncedBytesMax = 2_048
    return options
  }

  /// The bytes of a log's last segment.
  private static let segment: Bytes = {
    let files = SimulatedFileSystem(seed: 1)
    do {
      let log = try WriteAheadLog.create(
        directory: directory, metadata: WALMetadata(nodeID: 1, clusterID: 2), options: options,
        fileSystem: files)
      for index in 1...12 as ClosedRange<LogIndex> {
        log.append(
          hardState: HardState(term: 2, vote: 1, commit: index - 1),
          entries: [Entry(term: 2, index: index, data: Bytes(repeating: 7, count: 60))])
        try log.flush(sync: true)
      }
      try log.close()
    } catch {
      preconditionFailure("\(error)")
    }
    return files.content(of: directory)
  }()

  static var corpus: [Bytes] { [segment] }

  mutating func read(_ input: Bytes, _ random: inout SeededGenerator) {
    let files = SimulatedFileSystem(seed: 1)
    files.addFile(Self.directory + "/0000000000000000-0000000000000000.wal", input)
    guard
      let (log, recovered) = try? WriteAheadLog.open(
        directory: Self.directory, options: Self.options, fileSystem: files)
    else { return }
    // What was repaired is good.
    try? log.close()
    do {
      let again = try WriteAheadLog.open(
        directory: Self.directory, options: Self.options, fileSystem: files)
      precondition(again.recovered.entries == recovered.entries, "a repaired log reads differently")
    } catch {
      preconditionFailure("a repaired log cannot be opened: \(error)")
    }
  }
}

/// Requests in log entries: decoded, and applied to a store.
struct RequestTarget: FuzzTarget {
  static let name = "request"

  private var machine: StateMachine<MemoryRecordStore>
  private var index: LogIndex = 0

  init() { machine = Self.makeMachine() }

  private static func makeMachine() -> StateMachine<MemoryRecordStore> {
    StateMachine(
      settings: .init(member: 1, cluster: 2, maxLearners: 1),
      kv: KeyValueMachine(store: MemoryRecordStore()),
      lessor: Lessor(ttlMin: 1, retryPeriod: 1), alarms: AlarmSet(), membership: Membership(),
      applied: 0, appliedTerm: 0)
  }

  static var corpus: [Bytes] {
    let put = Etcdserverpb_PutRequest.with {
      $0.key = Data("key".utf8)
      $0.value = Data("value".utf8)
      $0.lease = 7
    }
    let range = Etcdserverpb_DeleteRangeRequest.with {
      $0.key = Data("a".utf8)
      $0.rangeEnd = Data("z".utf8)
      $0.prevKv = true
    }
    let txn = Etcdserverpb_TxnRequest.with {
      $0.compare = [
        .with {
          $0.key = Data("key".utf8)
          $0.target = .version
          $0.result = .greater
          $0.version = 0
        }
      ]
      $0.success = [.with { $0.requestPut = put }, .with { $0.requestDeleteRange = range }]
      $0.failure = [.with { $0.requestTxn = .with { $0.compare = [] } }]
    }
    let grant = Etcdserverpb_LeaseGrantRequest.with {
      $0.id = 7
      $0.ttl = 10
    }
    let record = MemberRecord(id: 3, peerURLs: ["http://127.0.0.1:2380"], name: "x")
    let change = ConfChange(
      kind: .addNode, nodeID: 3, context: MemberContext(record: record).encoded())
    return [
      wrap(.put, put), wrap(.deleteRange, range), wrap(.txn, txn), wrap(.leaseGrant, grant),
      wrap(.leaseRevoke, Etcdserverpb_LeaseRevokeRequest.with { $0.id = 7 }),
      wrap(.compaction, Etcdserverpb_CompactionRequest.with { $0.revision = 2 }),
      wrap(.alarm, Etcdserverpb_AlarmRequest.with { $0.alarm = .nospace }),
      change.encoded(),
    ]
  }

  private static func wrap(
    _ kind: InternalRequestEnvelope.Kind, _ request: some SwiftProtobuf.Message
  ) -> Bytes {
    InternalRequestEnvelope.wrap(
      kind, payload: (try? request.serializedBytes()) ?? [], requestID: 1 << 48 | 5)
  }

  mutating func read(_ input: Bytes, _ random: inout SeededGenerator) {
    let plain = try? Etcdserverpb_TxnRequest(serializedBytes: input)
    let read = try? Etcdserverpb_TxnRequest(decoding: input)
    precondition(plain == read, "a transaction is read in two ways")
    _ = try? Etcdserverpb_WatchRequest(serializedBytes: input)
    _ = try? Etcdserverpb_RangeRequest(serializedBytes: input)
    if index > 5_000 {
      machine = Self.makeMachine()
      index = 0
    }
    for kind in [Entry.Kind.normal, .configurationChange] {
      index += 1
      var output = ApplyOutput()
      do {
        try machine.apply(
          Entry(term: 1, index: index, kind: kind, data: input), now: 0, hasSpace: { _ in true },
          output: &output)
      } catch {
        // A member stops at what it cannot apply: the next input starts anew.
        machine = Self.makeMachine()
        index = 0
      }
    }
  }
}

/// Snapshot files in bbolt's format.
struct SnapshotTarget: FuzzTarget {
  static let name = "snapshot"

  private static let folder: String = {
    let base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
    return "\(base)/apus-fuzz-\(getpid())"
  }()

  private static let file: Bytes = {
    mkdir(folder, 0o700)
    let path = folder + "/good.db"
    do {
      let backend = try Backend.open(
        directory: folder + "/store", options: BackendOptions(mapBytes: 1 << 26, noSync: true))
      let buffers = try BufferedRecordStore(backend: backend)
      for main in 2...20 as ClosedRange<Int64> {
        let key = Bytes("key\(main)".utf8)
        buffers.append(
          Revision(main: main), isTombstone: false,
          StoredKeyValue.encode(
            key: key, createRevision: main, modRevision: main, version: 1,
            value: Bytes(repeating: 9, count: 100)))
      }
      try backend.commit(buffers.seal(consistentIndex: 30, term: 2))
      _ = try SnapshotFile.export(
        from: try backend.makeReadView(), to: path, overrides: SnapshotOverrides())
    } catch {
      preconditionFailure("\(error)")
    }
    return Files.read(path)
  }()

  static var corpus: [Bytes] { [file] }

  mutating func read(_ input: Bytes, _ random: inout SeededGenerator) {
    let path = Self.folder + "/input.db"
    Files.write(input, to: path)
    _ = try? SnapshotFile.inspect(path)
    _ = try? SnapshotFile.verifyHash(path)
  }

  static func cleanUp() {
    for folder in ["\(folder)/store", folder] {
      for name in (try? PosixFileSystem().list(folder)) ?? [] { unlink("\(folder)/\(name)") }
      rmdir(folder)
    }
  }
}

/// Whole files of the machine.
enum Files {
  static func read(_ path: String) -> Bytes {
    let files = PosixFileSystem()
    guard let file = try? files.openForReading(path) else { return [] }
    defer { files.close(file) }
    var bytes = Bytes(repeating: 0, count: (try? files.size(file)) ?? 0)
    _ = bytes.withUnsafeMutableBytes { try? files.read(file, into: $0, at: 0) }
    return bytes
  }

  static func write(_ bytes: Bytes, to path: String) {
    let files = PosixFileSystem()
    guard let file = try? files.open(path, create: true) else { return }
    defer { files.close(file) }
    try? files.truncate(file, to: 0)
    _ = bytes.withUnsafeBytes { try? files.write(file, $0, at: 0) }
  }
}
