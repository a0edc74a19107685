import Glibc
import Synchronization

/// Reads certificates anew when their files have changed, so that a renewed one is used by the next
/// handshake. Any thread.
public final class TLSContextSource: Sendable {
  private struct Cached {
    var stamps: [FileStamp]
    var result: Result<TLSContext, TLSError>
  }

  public let role: TLSContext.Role
  public let settings: TLSSettings
  /// Makes the certificate in the files, and makes it anew before it expires; nil if the files are
  /// an operator's.
  private let selfSigned: SelfSignedFiles?
  private let paths: [String]
  private let cached = Mutex<Cached?>(nil)

  public init(
    _ role: TLSContext.Role, _ settings: TLSSettings, selfSigned: SelfSignedFiles? = nil
  ) {
    self.role = role
    self.settings = settings
    self.selfSigned = selfSigned
    paths = [
      settings.certificateFile, settings.keyFile, settings.trustedCAFile, settings.revocationFile,
    ].filter { !$0.isEmpty }
  }

  /// What the files say now. Costs a system call for each file if nothing has changed.
  ///
  /// - Throws: ``TLSError`` as long as a file is missing or broken.
  public func current() throws(TLSError) -> TLSContext {
    try cached.withLock { cached throws(TLSError) -> TLSContext in
      var stamps = paths.map(FileStamp.init(path:))
      if let cached, cached.stamps == stamps, !isDue(cached.result) {
        return try cached.result.get()
      }
      try selfSigned?.renewIfDue()
      stamps = paths.map(FileStamp.init(path:))
      let result: Result<TLSContext, TLSError>
      do throws(TLSError) { result = .success(try TLSContext(role, settings)) } catch {
        result = .failure(error)
      }
      cached = Cached(stamps: stamps, result: result)
      return try result.get()
    }
  }

  private func isDue(_ result: Result<TLSContext, TLSError>) -> Bool {
    guard let selfSigned, case .success(let context) = result,
      let certificate = context.certificate
    else { return false }
    return selfSigned.isDue(certificate)
  }
}

/// What tells one state of a file from another.
private struct FileStamp: Equatable {
  var device: UInt = 0
  var inode: UInt = 0
  var size = 0
  var modified: [Int] = []

  init(path: String) {
    var info = stat()
    guard stat(path, &info) == 0 else { return }
    device = UInt(info.st_dev)
    inode = UInt(info.st_ino)
    size = Int(info.st_size)
    // The change of the inode is noted too: a copied file may come with an old time of its own.
    modified = [
      info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec,
    ]
  }
}
