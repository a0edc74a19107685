import Actors
import Base
import Glibc
import RaftActor
import StoreActor
import Synchronization

/// What a member has on disk when it starts: its identity, its log and its store.
struct MemberStorage {
  let member: MemberID
  let cluster: ClusterID
  let log: Handover<WriteAheadLog>
  let backend: Backend
  let machine: Handover<StateMachine<DiskRecords>>
  /// What the store holds.
  let applied: LogIndex
  let revision: Int64
  let membership: Membership
  let hardState: HardState
  /// The position before the first entry of the log in memory.
  let base: SnapshotMetadata
  let entries: [Entry]
  let confState: ConfState
  let isNew: Bool
  /// The members of a running cluster that this one joins; empty at any other start.
  let joins: [PeerMember]
  /// Of the newest revision, if it is to be compared with the peers' before the member goes on.
  let initialHash: KeyValueHash?
}

/// Carries a value from the thread that made it to the one that will own it: taken once.
final class Handover<Value>: Sendable {
  private let slot: Mutex<Value?>

  init(_ value: sending Value) { slot = Mutex(value) }

  func take() -> sending Value {
    let value = slot.withLock { slot in
      let value = slot
      slot = nil
      return value
    }
    guard let value else { preconditionFailure("handed over twice") }
    return value
  }
}

extension WALRecovered {
  /// Nothing was ever written to this log but whose it is.
  fileprivate var isUntouched: Bool {
    entries.isEmpty && snapshot.index == 0 && hardState == HardState()
  }
}

/// Why a member cannot start from its data directory. The texts say what to do.
struct StorageError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// Opens or creates a member's data directory.
struct StorageLoader {
  let configuration: MemberConfiguration
  let initialCluster: InitialClusterSource
  let log: EtcdLogger
  let failed: @Sendable (BackendError) -> Never

  private var memberDirectory: String { configuration.dataDirectory + "/member" }
  private var walDirectory: String { configuration.walDirectoryPath }
  private var storeDirectory: String { memberDirectory + "/store" }
  var snapshotDirectory: String { memberDirectory + "/snap" }

  /// Where the peer transport puts a store that was received for this entry.
  static func receivedSnapshot(_ index: LogIndex, in directory: String) -> String {
    "\(directory)/\(index.paddedHex).snap.db"
  }

  /// Whether there is a log: then flags about the initial cluster mean nothing any more.
  var hasLog: Bool { WriteAheadLog.exists(directory: walDirectory) }

  /// Makes the directories, and refuses those of others.
  func prepare() throws {
    try makeDirectory(configuration.dataDirectory, what: "data directory")
    try makeDirectory(memberDirectory, what: "member directory")
    try makeDirectory(snapshotDirectory, what: "snapshot directory")
    if etcdDirectory.isPresent {
      guard hasLog else {
        throw StorageError(
          "\(configuration.dataDirectory) holds a store of etcd, but \(walDirectory) no log that goes "
            + "with it. Nothing was changed. Put the log back (--wal-dir says where it is), or make a "
            + "data directory of the store with etcdutl snapshot restore")
      }
      return removeLeftovers()
    }
    let hasStore = access(storeDirectory, F_OK) == 0
    // A store without anything in it is what an interrupted first start leaves.
    let isFirstStart =
      try !hasLog
      && (!hasStore
        || Backend.open(directory: storeDirectory, options: options).progress.consistentIndex == 0)
    if !isFirstStart, !(hasLog && hasStore) {
      let missing = hasLog ? storeDirectory : walDirectory
      throw StorageError(
        "\(missing) is missing while the rest of the member's data is there. Starting without it "
          + "could lose acknowledged writes; put it back, or remove \(configuration.dataDirectory) "
          + "and let the member join again")
    }
    // Before the log, so that a log without a store is never what an interrupted first start leaves.
    try makeDirectory(storeDirectory, what: "store directory")
    removeLeftovers()
  }

  private func makeDirectory(_ path: String, what: String) throws {
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
      throw StorageError(
        "cannot access \(what): mkdir \(path): \(String(cString: strerror(errno)))")
    }
    guard access(path, W_OK | X_OK) == 0 else {
      throw StorageError(
        "cannot write to \(what): \(path): \(String(cString: strerror(errno)))")
    }
    try keepName(of: path)
  }

  /// A power cut must not take a directory whose content was synced: the member would come back
  /// without its memory. One that was there may be the work of a process that ended before this.
  private func keepName(of path: String) throws {
    let name = path.dropLast(path.count > 1 && path.hasSuffix("/") ? 1 : 0)
    let slash = name.lastIndex(of: "/")
    let parent = slash.map { $0 == name.startIndex ? "/" : String(name[..<$0]) } ?? "."
    let directory = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    // One that may be searched but not read can neither be opened nor synced.
    if directory < 0, errno == EACCES { return }
    defer { if directory >= 0 { close(directory) } }
    guard directory >= 0, fsync(directory) == 0 else {
      throw StorageError(
        "cannot sync \(parent), in which \(path) was made: "
          + "\(String(cString: strerror(errno)))")
    }
  }

  /// Files that were on their way to members or clients when the process ended.
  /// A received store stays until it is known not to be needed.
  private func removeLeftovers(includingReceived: Bool = false) {
    guard let directory = opendir(snapshotDirectory) else { return }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      let isReceived = name.contains(".snap.db")
      if name.hasPrefix("send-") || name.hasPrefix("client-") || name.hasPrefix("tmp")
        || isReceived && includingReceived
      {
        unlink(snapshotDirectory + "/" + name)
      }
    }
  }

  // MARK: - Start

  /// The first start of a member of a new cluster: every member writes the same first entries.
  func bootstrap(_ identities: InitialIdentities) throws -> MemberStorage {
    let log = try WriteAheadLog.create(
      directory: walDirectory,
      metadata: WALMetadata(nodeID: identities.localID, clusterID: identities.clusterID))
    return try bootstrap(identities, log: log, backend: try openBackend())
  }

  private func bootstrap(
    _ identities: InitialIdentities, log: sending WriteAheadLog, backend: Backend
  ) throws -> MemberStorage {
    let entries = identities.members.enumerated().map { position, member in
      let record = MemberRecord(
        id: member.id, peerURLs: member.peerURLs.map(\.description), name: member.name)
      let change = ConfChange(
        kind: .addNode, nodeID: member.id, context: MemberContext(record: record).encoded())
      return Entry(
        term: 1, index: LogIndex(position + 1), kind: .configurationChange,
        data: change.encoded())
    }
    let hardState = HardState(term: 1, vote: 0, commit: LogIndex(entries.count))
    log.append(hardState: hardState, entries: entries)
    try log.flush(sync: true)
    return try assemble(
      log: log, backend: backend, member: identities.localID, cluster: identities.clusterID,
      hardState: hardState, base: SnapshotMetadata(), entries: entries,
      confState: ConfState(voters: identities.members.map(\.id)), isNew: true)
  }

  /// The first start of a member of a running cluster: its log is empty, and so is its membership,
  /// which keeps it from voting before it has learnt who the others are.
  func join(_ cluster: ExistingCluster) throws -> MemberStorage {
    let backend = try openBackend()
    let log = try WriteAheadLog.create(
      directory: walDirectory,
      metadata: WALMetadata(nodeID: cluster.local, clusterID: cluster.id))
    log.append(hardState: HardState(), entries: [])
    try log.flush(sync: true)
    return try assemble(
      log: log, backend: backend, member: cluster.local, cluster: cluster.id,
      hardState: HardState(), base: SnapshotMetadata(), entries: [], confState: ConfState(),
      isNew: true, joins: cluster.members.map { PeerMember(id: $0.id, urls: $0.peerURLs) })
  }

  /// Every later start: the log says who this member is and where it was.
  func restart() throws -> MemberStorage {
    let (log, recovered) = try WriteAheadLog.open(directory: walDirectory)
    if let torn = recovered.tornTail {
      self.log.warn(
        "cut off the end of the log, which was written but never synced",
        ("file", torn.file), ("offset", torn.offset), ("bytes", torn.bytes),
        ("copy", torn.copy ?? ""))
    }
    if etcdDirectory.isPresent { try etcdDirectory.takeOver(recovered) }
    let backend = try openBackend(snapshot: recovered.snapshot)
    removeLeftovers(includingReceived: true)
    if configuration.initialClusterState == .new, recovered.isUntouched {
      // The first start was interrupted between making the log and writing its first entries.
      let identities = try initialCluster.newCluster()
      if identities.localID == recovered.metadata.nodeID {
        return try bootstrap(identities, log: log, backend: backend)
      }
    }
    return try assemble(
      log: log, backend: backend, member: recovered.metadata.nodeID,
      cluster: recovered.metadata.clusterID, hardState: recovered.hardState,
      base: recovered.snapshot, entries: recovered.entries, confState: nil, isNew: false)
  }

  private var etcdDirectory: EtcdDirectory {
    EtcdDirectory(
      snapshotDirectory: snapshotDirectory, storeDirectory: storeDirectory,
      maxLearners: configuration.maxLearners, options: options, log: self.log)
  }

  private var options: BackendOptions {
    BackendOptions(noSync: configuration.unsafeNoFsync)
  }

  /// Opens the store; if the log starts behind its end, a snapshot was received and its installation
  /// interrupted: the file is still there and is installed now.
  private func openBackend(snapshot: SnapshotMetadata = SnapshotMetadata()) throws -> Backend {
    let backend = try Backend.open(directory: storeDirectory, options: options)
    guard backend.progress.consistentIndex < snapshot.index else { return backend }
    let path = Self.receivedSnapshot(snapshot.index, in: snapshotDirectory)
    guard access(path, F_OK) == 0 else {
      throw StorageError(
        "the store ends at entry \(backend.progress.consistentIndex), the log begins after "
          + "\(snapshot.index), and \(path), which should be between them, is missing. Remove "
          + "\(configuration.dataDirectory) and let the member join again")
    }
    log.info("installing a received snapshot", ("path", path), ("index", snapshot.index))
    do {
      try ReceivedStore.check(path, endsAt: snapshot.index)
    } catch {
      throw StorageError(
        "\(error). Remove \(configuration.dataDirectory) and let the member join again")
    }
    _ = try ReceivedStore.install(path, into: backend)
    ReceivedStore.remove(path)
    return backend
  }

  /// Gives back what a file has grown by, if that is worth the time (`--bootstrap-defrag-...`).
  private func defragmentAtStart(_ backend: Backend) throws {
    let threshold = configuration.bootstrapDefragBytes
    let free = backend.sizeBytes - backend.sizeInUseBytes
    guard threshold > 0, free >= threshold else { return }
    self.log.info(
      "defragmenting at start", ("path", storeDirectory), ("size-bytes", backend.sizeBytes),
      ("size-in-use-bytes", backend.sizeInUseBytes), ("threshold-bytes", threshold))
    let start = monotonicNanoseconds()
    try backend.beginDefragment()
    while try !backend.continueDefragment(maxBytes: Backend.copySliceBytes) {}
    try backend.finishDefragment()
    self.log.info(
      "finished defragmenting directory", ("path", storeDirectory),
      ("current-db-size-bytes", backend.sizeBytes),
      ("took", Duration.nanoseconds(Int64(monotonicNanoseconds() - start))))
  }

  /// Between two checkpoints of a lease, as in etcd.
  private static let leaseCheckpointInterval: UInt64 = 300_000_000_000

  private func assemble(
    log: sending WriteAheadLog, backend: Backend, member: MemberID, cluster: ClusterID,
    hardState: HardState, base: SnapshotMetadata, entries: [Entry], confState: ConfState?,
    isNew: Bool, joins: [PeerMember] = []
  ) throws -> MemberStorage {
    try defragmentAtStart(backend)
    let electionTimeout = UInt64(configuration.electionTimeout.wholeNanoseconds)
    let lessor = Lessor(
      ttlMin: Lessor.ttlMin(electionTimeout: electionTimeout),
      retryPeriod: UInt64(configuration.requestTimeout.wholeNanoseconds),
      checkpointInterval: configuration.featureGates.isEnabled(.leaseCheckpoint)
        ? Self.leaseCheckpointInterval : nil)
    let machine = try StoreLoader.load(
      backend: backend,
      settings: .init(member: member, cluster: cluster, maxLearners: configuration.maxLearners),
      lessor: lessor, position: base, failed: failed)
    let last = entries.last?.index ?? base.index
    guard machine.applied <= last else {
      throw StorageError(
        "the store holds entry \(machine.applied), the log ends at \(last): entries that this "
          + "member has acknowledged are lost, and it must not vote. Remove "
          + "\(configuration.dataDirectory) and replace the member (member remove, member add)")
    }
    let applied = machine.applied
    var (hardState, entries) = (hardState, entries)
    if configuration.forceNewCluster, !isNew {
      let forced = try force(
        member, machine.membership, applied, hardState: hardState, base: base, entries: entries)
      log.append(hardState: forced.hardState, entries: forced.appended)
      try log.flush(sync: true)
      hardState = forced.hardState
      entries = forced.kept + forced.appended
    }
    let revision = machine.kv.currentRevision
    let membership = machine.membership
    let isChecked = !isNew && configuration.featureGates.isEnabled(.initialCorruptCheck)
    let hash = isChecked ? try machine.kv.hashKV(0) : nil
    return MemberStorage(
      member: member, cluster: cluster, log: Handover(log), backend: backend,
      machine: Handover(machine), applied: applied, revision: revision, membership: membership,
      hardState: hardState, base: base, entries: entries,
      confState: confState ?? bootConfState(membership, applied, entries), isNew: isNew,
      joins: joins,
      initialHash: hash)
  }

  private func force(
    _ member: MemberID, _ membership: Membership, _ applied: LogIndex, hardState: HardState,
    base: SnapshotMetadata, entries: [Entry]
  ) throws(StorageError) -> ForcedCluster {
    let forced = try ForcedCluster(
      member: member, name: configuration.name,
      advertised: configuration.advertisePeerURLs.map(\.description), membership: membership,
      applied: applied, hardState: hardState, base: base, entries: entries)
    self.log.warn(
      "forcing restart member: it is alone in its cluster from now on. Start it without "
        + "--force-new-cluster the next time, and the other members never again with their old data",
      ("local-member-id", member.hex), ("commit-index", forced.hardState.commit),
      ("removed-members", forced.removed.map(\.hex)),
      ("discarded-entries", entries.count - forced.kept.count))
    return forced
  }

  /// The configuration as of the store. Before the first entries are applied there is none there, but
  /// the bootstrap entries, which all members share, tell it.
  private func bootConfState(
    _ membership: Membership, _ applied: LogIndex, _ entries: [Entry]
  ) -> ConfState {
    let known = membership.confState
    guard known.voters.isEmpty, applied == 0 else { return known }
    let voters = entries.prefix { $0.kind == .configurationChange && $0.term == 1 }
      .compactMap { try? ConfChange(decoding: $0.data).nodeID }
    return ConfState(voters: voters.sorted())
  }
}
