import Base
import EtcdAPI
import RaftActor
import StoreActor
import SwiftProtobuf

extension ClientGateway {
  /// Answers what is asked about a downgrade. None is ever begun here: the data of an Apus member cannot be
  /// taken up by an older etcd, and saying yes would promise that. One that a member of etcd began can be
  /// cancelled.
  func downgrade(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_DowngradeRequest(copying: message)
    switch request.action {
    case .cancel: cancelDowngrade(handle)
    case .validate, .enable: try refuseDowngrade(handle, to: request.version)
    case .UNRECOGNIZED: throw EtcdError.methodUnknown
    }
  }

  private func cancelDowngrade(_ handle: CallHandle) {
    readLinearizable(
      .nothing,
      .page { outcome in
        if case .failure(let error) = outcome { return self.fail(handle, error) }
        self.refreshStatus()
        guard self.storeStatus.membership.downgrade?.isEnabled == true else {
          // Which etcd 3.7 does not call an error either.
          self.log.warn(
            "failed to cancel downgrade", ("error", "etcdserver: no inflight downgrade job"))
          return self.replyDowngrade(handle)
        }
        do throws(EtcdError) {
          // A request without fields: not enabled.
          try self.propose(
            .downgradeInfoSet, [],
            .page { outcome in
              if case .failure(let error) = outcome { return self.fail(handle, error) }
              self.replyDowngrade(handle)
            })
        } catch {
          self.fail(handle, error)
        }
      })
  }

  private func replyDowngrade(_ handle: CallHandle) {
    do {
      try reply(
        handle,
        Etcdserverpb_DowngradeResponse.with {
          $0.header = header()
          $0.version = clusterMinorVersion ?? ""
        })
    } catch {
      fail(handle, EtcdError(.internal, "\(error)"))
    }
  }

  /// Checks in etcd's order, of which the last fails for every target.
  private func refuseDowngrade(_ handle: CallHandle, to text: String) throws(EtcdError) {
    guard let target = DowngradeTarget(text) else { throw .downgradeVersionMalformed }
    guard clusterMinorVersion != nil else { throw .clusterVersionUnknown }
    readLinearizable(
      .nothing,
      .page { outcome in
        if case .failure(let error) = outcome { return self.fail(handle, error) }
        self.refreshStatus()
        let membership = self.storeStatus.membership
        let current = membership.clusterVersion.flatMap(Version.init)
        if let current, target.isOneMinorBelow(current), membership.downgrade?.isEnabled == true {
          return self.fail(handle, .downgradeInProgress)
        }
        self.log.warn(
          "refused a downgrade: the data of this member cannot be taken up by an older etcd. To go "
            + "back, add etcd members to the cluster one by one and remove those of Apus, or "
            + "restore a snapshot",
          ("target-version", target.description),
          ("cluster-version", self.clusterMinorVersion ?? ""))
        self.fail(handle, .downgradeVersionInvalid)
      })
  }

  /// `3.7`.
  private var clusterMinorVersion: String? {
    storeStatus.membership.clusterVersion.map { version in
      version.split(separator: ".").prefix(2).joined(separator: ".")
    }
  }
}

/// The version that a downgrade names: `X.Y`, or a whole semantic version.
struct DowngradeTarget: Equatable, CustomStringConvertible {
  let major: UInt64
  let minor: UInt64

  init?(_ text: String) {
    let core = text.prefix { $0 != "-" && $0 != "+" }
    let parts = core.split(separator: ".", omittingEmptySubsequences: false)
    guard (2...3).contains(parts.count), parts.count == 3 || core.count == text.count else {
      return nil
    }
    let numbers = parts.compactMap { part in
      part.allSatisfy { ("0"..."9").contains($0) } ? UInt64(part) : nil
    }
    guard numbers.count == parts.count else { return nil }
    (major, minor) = (numbers[0], numbers[1])
  }

  var description: String { "\(major).\(minor).0" }

  func isOneMinorBelow(_ version: Version) -> Bool {
    Version(Int(clamping: major), Int(clamping: minor)).isOneMinorBelow(version)
  }
}
