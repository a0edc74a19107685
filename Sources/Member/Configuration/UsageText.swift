/// What `--help` and a malformed command line print.
enum UsageText {
  static let usage = """
    Usage:

      apus [flags]
        Start a member.

      apus --version
        Show the version.

      apus -h | --help
        Show the help for all flags.

      apus --config-file <path>
        Start a member from a configuration file. All other flags and all ETCD_ variables are
        ignored then.

    """

  static let flagList: String = {
    var text = ""
    for section in FlagSpec.Section.allCases {
      text += "\n\(section.rawValue):\n"
      for spec in FlagTable.all where spec.section == section { text += entry(spec) }
    }
    return text + footer
  }()

  private static func entry(_ spec: FlagSpec) -> String {
    let shown: String
    switch spec.kind {
    case .bool, .unsigned, .unsigned32, .signed, .duration: shown = spec.defaultText
    default: shown = "'\(spec.defaultText)'"
    }
    let note =
      switch spec.support {
      case .supported: ""
      case .accepted: " (accepted, has no effect)"
      case .unfinished: " (not implemented yet; only the default is accepted)"
      case .refused: " (left out; another value is refused)"
      }
    return "  --\(spec.name) \(shown)\n    \(spec.help)\(note)\n"
  }

  private static let footer = """

    Each flag can be given as an environment variable as well: --data-dir is ETCD_DATA_DIR.
    Spellings of earlier etcd releases (--experimental-...) are understood, with a warning.

    """
}
