public import Base

// A segment's life: zeroed ahead of use, tail, sealed, released, zeroed again or removed.
extension WriteAheadLog {
  /// Zeroes a part of the tail's room if that is not done yet, then of the next segment's file, and
  /// makes it durable.
  ///
  /// To be called while the log is idle, until it returns true; appends then never change a file's
  /// size or extents. Each call blocks for one write and one sync of `sliceBytes`.
  /// - Returns: true once the next segment is ready.
  /// - Throws: `WALError.io`. A write that a full disk refuses does not end the log: the tail goes
  ///   on growing meanwhile, and a later call continues.
  public func prepareNextSegment(sliceBytes: Int) throws(WALError) -> Bool {
    precondition(sliceBytes > 0, "a slice has at least one byte")
    let outcome = try guarded { () throws(WALError) -> Result<Bool, WALError> in
      do throws(WALError) {
        guard try fillTail(sliceBytes) else { return .success(false) }
        return .success(try fillNext(sliceBytes))
      } catch {
        if error.isRefusalForSpace {
          return .failure(error)
        }
        throw error
      }
    }
    return try outcome.get()
  }

  public var isNextSegmentReady: Bool {
    next.map { $0.filled >= options.fileBytes } ?? false
  }

  /// Lets go of segments that hold nothing behind `index`, the index of a durable snapshot.
  public func release(through index: LogIndex) {
    guard let keep = segments.lastIndex(where: { $0.name.firstIndex < index }) else { return }
    releaseSegments(before: segments[keep].name)
  }

  func releaseSegments(before name: WALSegmentName) {
    for place in segments.indices where segments[place].name < name {
      if let file = segments[place].file { storage.files.close(file) }
      segments[place].file = nil
    }
  }

  /// Removes the oldest released segments while more than `keep` exist. One of them becomes the
  /// next segment if none is being prepared.
  /// - Returns: how many are gone.
  public func purge(keep: Int) throws(WALError) -> Int {
    try guarded { () throws(WALError) in
      var gone = 0
      while segments.count > max(keep, 1), let oldest = segments.first, oldest.file == nil {
        if next == nil {
          try recycle(oldest.path)
        } else {
          try storage.remove(oldest.path)
        }
        segments.removeFirst()
        gone += 1
      }
      if gone > 0 { try storage.syncDirectory(directory) }
      return gone
    }
  }

  /// Seals the tail and goes on in the next segment.
  ///
  /// A new segment gets its name only after its first records are durable, so that a named segment
  /// always starts well.
  func cut() throws(WALError) {
    while !isNextSegmentReady {
      // Without room for a new segment the tail simply grows until there is.
      do throws(WALError) { _ = try fillNext(options.fileBytes) } catch {
        if error.isRefusalForSpace { return }
        throw error
      }
    }
    guard let next else { return }
    let old = tail
    let end = position
    try storage.attempt("truncate", old.path) { () throws(SystemError) in
      try storage.files.truncate(old.file, to: end)
    }
    try syncTail()
    try writeDueMark()
    closeDirectTail()
    let name = WALSegmentName(sequence: old.name.sequence + 1, firstIndex: lastIndex + 1)
    let start = try writeSegmentStart(to: next.file, next.path)
    let segment = Segment(name, in: directory, file: next.file)
    try storage.rename(next.path, to: segment.path)
    try storage.syncDirectory(directory)
    segments.append(segment)
    self.next = nil
    position = start
    tailFilled = options.fileBytes
    try owner.write(SyncedMark(sequence: name.sequence, offset: position))
  }

  private var nextPath: String {
    // etcd's names for a segment in preparation; its tools overlook them.
    "\(directory)/\((tail.name.sequence + 1) % 2).tmp"
  }

  /// True if there was nothing to do. Never touches what is written already.
  private func fillTail(_ sliceBytes: Int) throws(WALError) -> Bool {
    let start = max(tailFilled, position)
    guard start < options.fileBytes else { return true }
    let tail = tail
    let end = min(options.fileBytes, start + sliceBytes)
    try storage.writeZeros(tail.file, tail.path, start..<end)
    try storage.sync(tail.file, tail.path)
    tailFilled = end
    return false
  }

  private func fillNext(_ sliceBytes: Int) throws(WALError) -> Bool {
    if next == nil {
      let path = nextPath
      let file = try Self.lockedFile(path, storage, create: true, directory: directory)
      next = NextSegment(path: path, file: file)
    }
    guard var filling = next else { return false }
    if filling.filled < options.fileBytes {
      let end = min(options.fileBytes, filling.filled + sliceBytes)
      try storage.writeZeros(filling.file, filling.path, filling.filled..<end)
      try storage.sync(filling.file, filling.path)
      filling.filled = end
      next = filling
    }
    return filling.filled >= options.fileBytes
  }

  /// Makes an old segment the next one. Its name is gone for good before its content is.
  private func recycle(_ path: String) throws(WALError) {
    let target = nextPath
    try storage.rename(path, to: target)
    try storage.syncDirectory(directory)
    let file = try Self.lockedFile(target, storage, create: false, directory: directory)
    next = NextSegment(path: target, file: file)
    let size = try storage.attempt("stat", target) { () throws(SystemError) in
      try storage.files.size(file)
    }
    let limit = options.fileBytes
    if size > limit {
      try storage.attempt("truncate", target) { () throws(SystemError) in
        try storage.files.truncate(file, to: limit)
      }
    }
  }
}
