// Where and how a member is asked what it is.

import TLS

/// A member's address for questions, and the certificate to ask with.
struct ProbeTarget: Sendable {
  let url: MemberURL
  /// Nil for plain HTTP.
  let certificates: TLSContextSource?

  /// A plain metrics URL if the member has one, else its client URL, with the member's own
  /// certificate where clients have to show one.
  init(_ plan: MemberPlan, in cluster: ClusterFile) {
    func flag(_ name: String) -> String { plan.flags.last { $0.name == name }?.value ?? "" }
    let metrics = flag("listen-metrics-urls").split(separator: ",").lazy
      .compactMap { try? MemberURL(parsing: String($0), defaultPort: 2381) }
      .first { $0.scheme == .http }
    url = plan.clientURL.scheme == .http ? plan.clientURL : metrics ?? plan.clientURL
    guard url.scheme == .https else {
      certificates = nil
      return
    }
    certificates = TLSContextSource(.client, Self.clientSettings(plan, in: cluster))
  }

  /// How to ask a member over TLS: with its own certificate where clients have to show one.
  static func clientSettings(_ plan: MemberPlan, in cluster: ClusterFile) -> TLSSettings {
    func flag(_ name: String) -> String { plan.flags.last { $0.name == name }?.value ?? "" }
    var settings = TLSSettings()
    // A member of one's own on an address of one's own; nothing is told to it.
    settings.verifiesPeer = false
    let ownPair = (flag("client-cert-file"), flag("client-key-file"))
    let serverPair = (flag("cert-file"), flag("key-file"))
    let madePair = (
      cluster.dataPath(of: plan) + "/fixtures/client/cert.pem",
      cluster.dataPath(of: plan) + "/fixtures/client/key.pem"
    )
    (settings.certificateFile, settings.keyFile) =
      !ownPair.0.isEmpty ? ownPair : !serverPair.0.isEmpty ? serverPair : madePair
    return settings
  }
}
