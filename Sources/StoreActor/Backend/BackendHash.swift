import Base

extension ReadView {
  /// etcd's Maintenance.Hash: CRC-32C over the names, keys and values of all tables, without the
  /// applied index, its term and the storage version. Reads the whole file: any thread with a view.
  public func hashBackend() throws(BackendError) -> UInt32 {
    let ignored = [BackendKey.consistentIndex, BackendKey.term, BackendKey.storageVersion]
    var crc: UInt32 = 0
    for bucket in BackendBucket.allCases {
      crc = CRC32C.extend(crc, bucket.nameBytes)
      try scan(bucket) { key, value in
        if bucket == .meta, ignored.contains(Bytes(key)) { return true }
        crc = CRC32C.extend(CRC32C.extend(crc, key), value)
        return true
      }
    }
    return crc
  }
}

extension Backend {
  /// `ReadView.hashBackend` of the last commit.
  public func hashBackend() throws(BackendError) -> UInt32 {
    try makeReadView().hashBackend()
  }
}
