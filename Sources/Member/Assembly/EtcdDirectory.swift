import Base
import Glibc
import RaftActor
import StoreActor

/// A data directory that etcd, or its restore of a snapshot, has left: the log is in the form that Apus
/// writes, too; the store is a bbolt file, which is read once into a store of Apus's own.
///
/// etcd's file is not changed. Until the new store is in place, all at once, every start begins again.
struct EtcdDirectory {
  let snapshotDirectory: String
  let storeDirectory: String
  let maxLearners: Int
  let options: BackendOptions
  let log: EtcdLogger

  private var file: String { snapshotDirectory + "/db" }

  /// Whether there is a store of etcd, and none of Apus.
  var isPresent: Bool {
    access(file, F_OK) == 0 && !Backend.exists(directory: storeDirectory)
  }

  /// Makes the store of what etcd's file holds, and of what its log says about the members.
  /// - Throws: why that cannot be; nothing was made then.
  func takeOver(_ recovered: WALRecovered) throws {
    let start = recovered.snapshot
    var path = file
    var contents = try StoreActor.SnapshotFile.inspect(path)
    if contents.consistentIndex < start.index {
      // The process ended between receiving a store and putting it in place.
      path = StorageLoader.receivedSnapshot(start.index, in: snapshotDirectory)
      guard access(path, F_OK) == 0 else {
        throw StorageError(
          "etcd's store \(file) ends at entry \(contents.consistentIndex), its log begins after "
            + "\(start.index): what is between them is missing. Nothing was changed. Restore a "
            + "snapshot, or replace the member (member remove, member add)")
      }
      contents = try StoreActor.SnapshotFile.inspect(path)
    }
    let end = contents.consistentIndex
    let last = recovered.entries.last?.index ?? start.index
    guard (start.index...last).contains(end) else {
      throw StorageError(
        "etcd's store \(path) ends at entry \(end), its log covers \(start.index) to \(last): they do "
          + "not belong together. Nothing was changed. Restore a snapshot, or replace the member "
          + "(member remove, member add)")
    }
    let term =
      end == start.index ? start.term : recovered.entries[Int(end - start.index) - 1].term
    log.info(
      "taking over a data directory of etcd", ("path", path), ("consistent-index", end),
      ("last-revision", contents.lastRevision?.main ?? 0), ("records", contents.recordCount))
    var overrides = SnapshotOverrides()
    overrides.setProgress(consistentIndex: end, term: term)
    // From 3.6 on, the tables of the store are the truth about the members.
    if contents.storageVersion == nil {
      overrides.replaceMembership(
        try membership(recovered, through: end, maxLearners: maxLearners))
    }
    _ = try Backend.importSnapshot(
      path: path, into: storeDirectory, options: options, overrides: overrides)
    log.info(
      "took over a data directory of etcd; its own file stays as it is and is not used any more",
      ("path", file))
  }

  /// Before 3.6 the truth lies beside the store: in the file of the newest snapshot, and in the log.
  private func membership(
    _ recovered: WALRecovered, through end: LogIndex, maxLearners: Int
  ) throws -> Membership {
    var membership = Membership()
    if recovered.snapshot.index > 0 {
      let path = snapshotDirectory + "/" + RaftSnapshotFile.name(recovered.snapshot)
      do {
        let snapshot = try RaftSnapshotFile(try ProcessEnvironment.readBytes(path)).snapshot
        membership = try Membership(decodingV2Store: snapshot.data)
      } catch {
        throw StorageError(
          "\(path), which says who the members are, cannot be used: \(error). Nothing was changed. "
            + "Restore a snapshot, or replace the member (member remove, member add)")
      }
    }
    for entry in recovered.entries where entry.index <= end {
      membership.follow(entry, maxLearners: maxLearners)
    }
    return membership
  }
}
