import Actors
import Base
import Glibc

/// The process around a member: logging, the exit code, the last words.
public enum MemberProgram {
  /// Runs a member to its end and returns the exit code. Ends by the signal that it was stopped with.
  public static func run(_ configuration: MemberConfiguration, _ records: [LogRecord]) -> Int32 {
    let log: EtcdLogger
    do throws(LogSinkError) {
      log = EtcdLogger(sink: try LogSink(configuration.logging))
    } catch {
      EtcdLogger(sink: .standardError()).fatal("cannot open the log", ("error", error.description))
      return 1
    }
    log.write(records)
    DescriptorLimit.raise()
    if let reason = resourceProblem(configuration) {
      log.fatal("the member cannot start", ("error", reason))
      return 1
    }
    do {
      let signal = try MemberProcess(configuration: configuration, log: log).run()
      return signal == 0 ? 0 : end(bySignal: signal)
    } catch {
      log.fatal("the member cannot start", ("error", "\(error)"))
      return 1
    }
  }

  /// Descriptors that a member needs beside those of its clients.
  static let descriptorsReserved = 150

  private static func resourceProblem(_ configuration: MemberConfiguration) -> String? {
    if let limit = DescriptorLimit.current, limit <= UInt64(descriptorsReserved) {
      return "file descriptor limit of etcd process is too low; please set higher (ulimit -n, or "
        + "LimitNOFILE in the unit): it is \(limit), and \(descriptorsReserved) are taken "
        + "for the member itself"
    }
    // Pages are locked as they come into use: the store's file is mapped far beyond its size.
    let locked = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT
    if configuration.memoryLock, mlockall(Int32(locked)) != 0 {
      return "--memory-mlock: the memory cannot be locked: \(String(cString: strerror(errno))). "
        + "Raise the limit (ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit), or leave the "
        + "flag out"
    }
    return nil
  }

  /// Parents tell by the status that the member was told to stop. As first process of a container
  /// there is no such death: 0 says as much.
  private static func end(bySignal number: Int32) -> Int32 {
    guard getpid() != 1 else { return 0 }
    signal(number, SIG_DFL)
    raise(number)
    return 128 + number
  }
}

/// What the process finds around it.
public enum ProcessEnvironment {
  public static var variables: [String: String] {
    var variables: [String: String] = [:]
    var position = environ
    while let entry = position.pointee {
      let text = String(cString: entry)
      if let equals = text.firstIndex(of: "=") {
        variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
      }
      position += 1
    }
    return variables
  }

  public static func readFile(_ path: String) throws -> String {
    String(decoding: try readBytes(path), as: UTF8.self)
  }

  static func readBytes(_ path: String) throws -> Bytes {
    do { return try WholeFile.read(path) } catch { throw ConfigurationError(error.description) }
  }

  /// The address of the default route: what is advertised when a member listens on all addresses.
  public static var defaultHost: String? {
    // A datagram socket is given an address by `connect`; nothing is sent.
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = UInt16(9).bigEndian
    target.sin_addr.s_addr = UInt32(0xC000_0201).bigEndian
    let size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let connected = withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
    }
    guard connected == 0 else { return nil }
    var local = sockaddr_in()
    var length = size
    let named = withUnsafeMutablePointer(to: &local) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    guard named == 0, local.sin_addr.s_addr != 0 else { return nil }
    var text = [CChar](repeating: 0, count: Int(INET_ADDRSTRLEN))
    guard inet_ntop(AF_INET, &local.sin_addr, &text, socklen_t(INET_ADDRSTRLEN)) != nil else {
      return nil
    }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
