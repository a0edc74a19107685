import Actors

/// The members of a cluster as DNS names them (`--discovery-srv`): two services, one for members
/// that are reached by TLS and one for the others, whose records together are the cluster.
struct ServiceDiscovery {
  let name: String
  let domain: MemberConfiguration.ServiceDomain
  let advertised: [EtcdURL]
  let log: EtcdLogger
  /// The records of a service by its full name.
  let services: (String) throws(NameError) -> [ServiceRecord]
  /// A numeric address of a host.
  let address: (String) throws(NameError) -> String

  /// - Returns: the members; the one at an advertised address bears this member's name, the others are
  ///   numbered, as etcd does, until they publish their names.
  /// - Throws: ``ConfigurationError`` in etcd's words.
  func find() throws(ConfigurationError) -> [MemberConfiguration.InitialMember] {
    var found: [Found] = []
    var failures: [String] = []
    for scheme in [EtcdURL.Scheme.https, .http] {
      do throws(Failure) {
        found += try query(scheme)
      } catch {
        failures.append(error.text)
      }
    }
    if !failures.isEmpty {
      log.warn(
        "failed to resolve during SRV discovery", ("error", failures.joined(separator: "; ")))
    }
    guard !found.isEmpty else {
      throw ConfigurationError(
        "error setting up initial cluster: \(failures.joined(separator: "; "))")
    }
    for each in found {
      log.info("got bootstrap from DNS for etcd-server", ("node", each.description))
    }
    let members = MemberConfiguration.InitialMember.grouped(found.map { ($0.name, $0.url) })
    guard members.contains(where: { $0.name == name }) else {
      throw ConfigurationError(
        "error setting up initial cluster: cannot find local etcd member \(name.goQuoted) in SRV "
          + "records")
    }
    return members
  }

  private struct Found: CustomStringConvertible {
    let name: String
    let url: EtcdURL

    var description: String { "\(name)=\(url)" }
  }

  private struct Failure: Error { let text: String }

  private func query(_ scheme: EtcdURL.Scheme) throws(Failure) -> [Found] {
    let service =
      (scheme == .https ? "etcd-server-ssl" : "etcd-server")
      + (domain.suffix.isEmpty ? "" : "-\(domain.suffix)")
    var found: [Found] = []
    var failure: String?
    do throws(NameError) {
      let own = try advertisedAddresses()
      do throws(NameError) {
        found = try members(service, scheme, own)
      } catch {
        failure = "error querying DNS SRV records for _\(service) \(error)"
      }
    } catch {
      failure = error.description
    }
    log.info(
      "get cluster for \(scheme == .https ? "etcd-server-ssl" : "etcd-server") SRV",
      ("service-scheme", scheme.rawValue), ("service-name", service), ("server-name", name),
      ("discovery-srv", domain.domain), ("advertise-peer-urls", advertised),
      ("found-cluster", found.map(\.description)), ("error", failure))
    if let failure { throw Failure(text: failure) }
    return found
  }

  private func advertisedAddresses() throws(NameError) -> [String: EtcdURL] {
    var own: [String: EtcdURL] = [:]
    for url in advertised {
      guard !url.isUnix else { throw NameError("address \(url): missing port in address") }
      own[endpoint(try address(url.host), url.port)] = url
    }
    return own
  }

  /// Records that lead nowhere are left out unless all do.
  private func members(
    _ service: String, _ scheme: EtcdURL.Scheme, _ own: [String: EtcdURL]
  ) throws(NameError) -> [Found] {
    var found: [Found] = []
    var failure: NameError?
    var number = 0
    for record in try services("_\(service)._tcp.\(domain.domain)") {
      let reached: String
      do throws(NameError) {
        reached = endpoint(try address(record.host), record.port)
      } catch {
        failure = error
        continue
      }
      let url = EtcdURL(
        scheme: scheme, host: String(record.host.dropLast(record.host.hasSuffix(".") ? 1 : 0)),
        port: record.port)
      guard let advertised = own[reached] else {
        found.append(Found(name: String(number), url: url))
        number += 1
        continue
      }
      if advertised.scheme == scheme {
        found.append(Found(name: name, url: url))
      } else {
        failure = NameError(
          "bootstrap at \(url) from DNS for \(service) has scheme mismatch with expected peer "
            + "\(advertised)")
      }
    }
    if found.isEmpty, let failure { throw failure }
    return found
  }

  private func endpoint(_ address: String, _ port: UInt16) -> String {
    "\(address) \(port)"
  }
}

extension MemberConfiguration.InitialMember {
  /// Pairs with one name are one member with several URLs.
  static func grouped(_ pairs: [(name: String, url: EtcdURL)]) -> [Self] {
    var members: [Self] = []
    for (name, url) in pairs {
      if let index = members.firstIndex(where: { $0.name == name }) {
        members[index].peerURLs.append(url)
        members[index].peerURLs.sort()
      } else {
        members.append(Self(name: name, peerURLs: [url]))
      }
    }
    return members
  }
}
