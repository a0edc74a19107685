// What can be found out before a process is spawned.

import Glibc

enum Preflight {
  /// Makes the data folder, or checks that it can be written to.
  ///
  /// - Returns: what is wrong, in words for the user; empty if nothing is.
  static func checkDirectory(_ cluster: ClusterFile) -> [String] {
    let place = "\(cluster.path):\(cluster.dataDirectoryLine)"
    do {
      try Files.makeDirectory(cluster.dataDirectory)
    } catch {
      return ["\(place): the data-dir cannot be made: \(error)"]
    }
    guard access(cluster.dataDirectory, W_OK | X_OK) == 0 else {
      return [
        "\(place): the data-dir \(cluster.dataDirectory) is not writable: \(systemText(errno))"
      ]
    }
    return []
  }

  /// Checks that the data is this cluster's, and that nobody uses it. For the owner of the lock.
  static func checkData(_ cluster: ClusterFile) -> [String] {
    if let advice = ProcessRecord.advice(ProcessRecord.survivors(cluster)) {
      return ["\(cluster.dataDirectory): \(advice)"]
    }
    return checkIdentity(cluster)
  }

  /// Data that was made for other members, peer URLs or another token would form no cluster.
  private static func checkIdentity(_ cluster: ClusterFile) -> [String] {
    guard Files.exists(cluster.identityPath), holdsData(cluster) else { return [] }
    let kept: String
    do {
      kept = try Files.read(cluster.identityPath)
    } catch {
      return ["\(error)"]
    }
    guard let identity = ClusterIdentity(parsing: kept) else {
      return [
        "\(cluster.identityPath) is damaged; move \(cluster.dataDirectory) away or choose another"
          + " data-dir at \(cluster.path):\(cluster.dataDirectoryLine)"
      ]
    }
    let differences = identity.differences(from: cluster)
    if differences.isEmpty { return [] }
    return differences.map { $0.description(path: cluster.path) } + [
      "The data in \(cluster.dataDirectory) belongs to a cluster that was started differently.",
      "Restore the lines above; or choose another data-dir at"
        + " \(cluster.path):\(cluster.dataDirectoryLine); or remove \(cluster.dataDirectory), which"
        + " loses its data; or make the change in the running cluster first (apusctl member"
        + " add, update, remove) and then remove \(cluster.identityPath).",
    ]
  }

  /// Whether any member, also one that the file no longer names, has data.
  private static func holdsData(_ cluster: ClusterFile) -> Bool {
    Files.entries(of: cluster.dataDirectory).contains { name in
      Files.exists(Files.join(Files.join(cluster.dataDirectory, name), "member"))
    }
  }

  /// Finds ports that somebody listens on already.
  static func checkPorts(_ cluster: ClusterFile) -> [String] {
    cluster.members.flatMap { checkPorts(cluster, of: $0) }
  }

  /// The same for one member.
  static func checkPorts(_ cluster: ClusterFile, of member: MemberPlan) -> [String] {
    [
      problem(member.clientURL, "client-url", member.clientURLLine, member, cluster),
      problem(member.peerURL, "peer-url", member.peerURLLine, member, cluster),
    ].compactMap(\.self)
  }

  private static func problem(
    _ url: MemberURL, _ key: String, _ line: Int, _ member: MemberPlan, _ cluster: ClusterFile
  ) -> String? {
    let number = bindError(url)
    let change = "change \(key) at \(cluster.path):\(line)"
    switch number {
    case 0: return nil
    case EADDRINUSE:
      let owner =
        ProcessTable.listener(onPort: url.port)
        .map { "another process (pid \($0.pid), \($0.name))" } ?? "another process"
      return "member \(member.name): \(url.address) is already in use by \(owner); "
        + "stop it or \(change)"
    case EADDRNOTAVAIL:
      return "member \(member.name): \(url.host) is not an address of this machine; \(change)"
    case EACCES:
      return "member \(member.name): this user may not listen on port \(url.port); \(change)"
    default:
      return "member \(member.name): \(url.address) cannot be used: \(systemText(number));"
        + " \(change)"
    }
  }

  /// Listens for a moment; 0 if that works.
  private static func bindError(_ url: MemberURL) -> Int32 {
    var hints = addrinfo()
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    let host = url.host == "localhost" ? "127.0.0.1" : url.host
    guard getaddrinfo(host, String(url.port), &hints, &found) == 0, let info = found else {
      return EADDRNOTAVAIL
    }
    defer { freeaddrinfo(found) }
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = socket(info.pointee.ai_family, type, 0)
    if descriptor < 0 { return errno }
    defer { close(descriptor) }
    var yes: Int32 = 1
    // Connections of an earlier run may linger for a minute; they are in nobody's way.
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    guard bind(descriptor, info.pointee.ai_addr, info.pointee.ai_addrlen) == 0,
      listen(descriptor, 1) == 0
    else { return errno }
    return 0
  }
}
