// Keys and tokens made with other programs (OpenSSL's, PyJWT) for these tests alone.

enum TokenSamples {
  static let secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

  /// For user `alice` at revision 7, good until the year 2100.
  static let tokens: [String: String] = [
    "RS256":
      "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.LIdUvnb56WNCxUhkseBIQIpXGrDOMUMcVGgSxv2ps_i0DwZz9y3bXBTJojLvUiP"
      + "d5HSzNnffVtlyhqqWuxq5b19ygSam4tbMgak24T8j2vtz3Eqt6tmp1n-Ia0Z2TtXTEe14CRDcFM3mDKSb8Fm"
      + "uaIHHYKD3YBLIGH3NnPMNLh2Mw67RhanESMmLtVODnIh9UZAGPmFdLKCbBAWGvcOxSzai4acvKxHBxPK76Oa"
      + "kNHX8KzJ8RW5FiERJ2hEqSk6Xu3Qv6AekiNl4Xt6bDwXti334RsM7z7HnRy8NYzZ7xnX1abG7aLkGHJoiHNC"
      + "G6B5L9FPtTfT_qkudzoYKyLqwEA",
    "RS384":
      "eyJhbGciOiJSUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.NMUqGyCwWCIMjkkWhSNNkWNILwuUd6dgBL9M3VWoj6NIDJRv3IA86VY-giAqSvu"
      + "gqukW5GAKHVWKsdHqExsL5Px5r18Z1PPT1cVYzcxnF1jSfWTvUmKHgfzB6W_Q2VVZ4br1WqRlwwmleIBO79j"
      + "TbxJX_TAzV5QX00S8r0_ljQT6h_ON7LnYygglRggp0L6e4SywjPc3a0RYIAZDZoJF05_5LBMxqA0eYdiMpjP"
      + "57M4nf_is6XL6a_293rtvH0pYX9wE-AWMVVSI9bGoZsGDBR1kpXPpJgmr2_ceUVq6RZLUh2U3zws0d0KB4W3"
      + "M_qb4MT0mdx7DcDFwreY_k9bdIw",
    "RS512":
      "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.MJq6lz7O64lQNnfR72AA2NH2GXLSQHOin6OMoZ5yx_Nge7ITTYtUyrncG3eLzZ0"
      + "82rUfm3fZ_43Tx6Jpf69B9HzkZJoi_0foAVEZxKqwVn4lrAzREqzpRb3aJAVuFcTGQJ0r4b2sIwm_WCdy4Uc"
      + "4FM_zu8j04hTmClv4khBZ_dn-Ga164Wr8jiSJR4GL26_UuBJq35wcRgTtH5jEo6PMqVOEKTtbSeUALrI0Rwt"
      + "YsdhnzY9xV92JVHl-laJrWZMR_vS7y6b7uFVNXMEFad0HZacHNC6EdgECtZx_B_JbDERjcKgzcsaQILouLDT"
      + "yLQtrHBUnnOfuQQw9yzpsTOromg",
    "PS256":
      "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.QCriuzem1EZBR6u7tinUPvIJjTklHrWHy0V5Wf7UeY_cI-Od_EFTKwQGjUa0CCr"
      + "U2WPiQg_KGeyqjrsG0ttEECQ9gqm6ZIMoxe_01kvhke5uPsBr8ht8e6_9x4TKJX5PBrnyUZnFrQM_xBFsPeI"
      + "_MYPavPGJgv7350AndyxXpSre2FkLbn2X7vfLF__ygtXDDZ_Oq0QQoVlact5ptNM9v9p3p9V5KhZRv-5DFDw"
      + "riO8s004uhgd7tjvj0eHjmhWV2OQomcszrDumNEgbKBGhQawjr69pfj3rOTvELpY7uMp_fhTRcQ2BQvLoCFk"
      + "qJbYB3JLoWW5eZwqaGdTRKBVHCg",
    "PS384":
      "eyJhbGciOiJQUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.zVSj9vYPZEajSmQaOxhSPKN88l4Di1zStxwhM1_57YRkSmC5f4NkJ6yvaSfReGl"
      + "4EYLlmt4SOdFMoKpYdRH3i1skwrhL0dOkxLl4u7H5_G7HIr-8ycxeVVAlpdMI6da7GjMyB0GfxFab0Seyj4g"
      + "mZ_gSnE1_Kvb5jgGCt3yNTHEcKQdn4ip0wnsTRXw5NAjfe3VobWRK3jMSzVx50j7YCNv7pbMUxq3HQmzyiT-"
      + "974z840FdXhx3jCCy5e67zZvh-IMbZ3wARHM7kLvLmEYiQP_gIok3IT2OCB0FrVNJUZBG-u-_XTmD5pO4SK9"
      + "8LWsu3vZINsELN5DJJPNesWi6lQ",
    "PS512":
      "eyJhbGciOiJQUzUxMiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.WoN0376TBedvzVN9qeH6XULAy-plvue4etgPwZbN78FsROM0NCgkYHQwiOycxmG"
      + "Riupdsr7us58nm822ZWkHHPGWZjRBQlfXbpyYnSuTazfxxwU5HIKV6fM4GoPixpMDxSf2TfSJmooXuBlNLF5"
      + "KQCMOk_eCGneMn6X1wpWrCpe4teWSawcmP6RuBCD4Ku-TZ56LFFEjqhv8ARbRVZqYZSiIEyQyBK5BmL5IWrg"
      + "cfFksffuHB5zR_TIuaozRIKUSlunbXECWdgfJJDNLC9xVvrwKhUeVAn1h8IZBLXj1C6ldW7UQBD81I7b3UCO"
      + "l0YRGK8dzu2rTDAkV9BNtgEvNBw",
    "ES256":
      "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.j04ollKrTNhofeZNzRPLCqR8-jwODvhpIinkGfX4MtjmBYO20ePY_rgRwabZAvB"
      + "5KvhlxZ1WeNB_rG_RTvGzUg",
    "ES384":
      "eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.-wG8J8W2i6sglaUnmvLqtyXLBoFl96f4vVEyj5pGMTKOT2bl-ZLKSPfb1nAJFni"
      + "V2YzW3dyOdvP-K0kKVIF8jZC-gdqoemgV3Y8EMvkawyWpARbKIvENR73UF3myfg6T",
    "ES512":
      "eyJhbGciOiJFUzUxMiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.AbuLvbUS5PJ3lxB_bxYujt7Ic26lUUPlg40LDMABvu8WLX_CfEVEEmet6dg6uYP"
      + "UO-0NucvWrGXBwfMW3RuVVbKTAaNzIbRIg5gKM2x8o1jfbgcCQKkI9qskzU1AAe8gTDQR_l21IVn1k146ldv"
      + "vtKHTA5gY-DB_ouk2CURgD-Zd2BjZ",
    "EdDSA":
      "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.QfddmcD8SS6VdTp4UaZpzrB6vhPM6BhK-yhFkx_qhB8lZ6abxNdK7VcW2Ru_Jjf"
      + "vR00iJiRkQ2XKIiA2NCm0AA",
    "HS256":
      "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.0iJfrJJBTedGemerR7rFwuK2V-xmkywOJi8Wku-UDX8",
    "HS384":
      "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.7184z2gbZIO2v5wVJXtAUiCXAjPuzi7lw7SZGbRblukWea5gsIQmff2q8nJVclF"
      + "L",
    "HS512":
      "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV"
      + "4cCI6NDEwMjQ0NDgwMH0.2f1Kt2NSToO23kCZWgjgchyOguf_YcmsgOlkMRZWZhviGIqe_2Oufi3YmtqaNY7"
      + "23--f5mNlZ3SBDrEno-qbfQ",
  ]

  static let rsaPrivate = """
    -----BEGIN PRIVATE KEY-----
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDO5VwK2ykf7T6j
    LYxhhb5qahNLhOCaIAuWCbxmwtbtusJDXXY8rX/v4eakof5bCKhM3Odws8phbohn
    ymWdJZ5lOW11m/f/UrwmFkxx6ATdGO22Oxmlsvj+RPPbACZHS3z6wU1gnrXkAcHr
    TWGS7KdTlllCdzrCZBIN2njgCyhNeYtUFOeLxEUok63DSotTEkTkVBtARUWopcxj
    yYJF+jB31G6jaaG+0sstKogOCMCuTutrqIcV9+jH9fNhj/tshsqwvPJtLSnZBXEc
    GbTfHk1dPMJ6YFXzASoXEAkKYldrDwUxlqO913afMsj9HvqgrLrphbZF3rVUB3KT
    DdC98BvhAgMBAAECggEAEdP3PrM8Y7UmjtqTrGqhKhvKXllMnlNRFERyANvct97+
    Mt5YnClqKxJI9NpFp/QCxp7Jba98arFi3Si2YVh2weu1KCuArvZi4phMzYrr8l5d
    y3RjxSC7LnPkHHSyl7WkRxpFj+QVMdjJ7Dv+grHUSFJeDilmfY4wdROkk0+60RQW
    q84OqTb38THPVoVEBdB6NbY1CmWDaLrRv5Er0dqiny+WN2IYjQofsU0d+oJ7n6TA
    2XviBgKH9HlUTKMtgDjgw5keQxKM8Pl/A1ZCclYLNdd07tNEFjNPa+L4OxBYdbwY
    27ookc47w8TzkbFWNsuj2C/dQ/I0+wUpbvmneDVzfQKBgQDyL6wqoiue+6rqmy4P
    ri5+xEmWhN+qbCTAzOJHYUzA+LvOQX92p/M7HRR6TMx5gX532qvxIwelzbpDle3q
    nAb07QrynGtCve1ymqcB94TYUGAAFXeKIUXl5wiPPUmIC7KcLrdL3haHv2HENaCz
    ChfRRRT03d5/4S78n+HrJ8wvBQKBgQDasmOpjggRTGRejOnEHVvm79K57Jc+AB+D
    0IYLNuOEeHT7rp0BWA1weFAFOgj9igWjJIURcApc7gDbNqax0JtaH39euGOFdcKZ
    17aja2buzikwCfzHt9/X9dnMdlEq8GioKpf6QRE5TxijjwaEauCK3ISLg+0sOYF1
    tKeqnbP4LQKBgQCCNEMZgKp3BNK04sz2vSxeFuWBONqO4yk3Rm949MSxEojVsLz4
    a/8GjvHNdrCPuqDlivjZ4X1hFKPJZjfM5CmRUEeMe6/m5/lane6fzhTrvvp90Qy9
    hHnxyi395HM94xwZf7wn27S9MpU7SaGl4A1CAyPrKcVPdx8tzj9Fj9XkiQKBgHG7
    R70LkgJ8+c159q/4nKySl8H82gJySfFg5fS7DML9acjhW+ExC3wr9WFidv5zYs8e
    1NzmqVz+oQ9fcn0SgVfy/Wgi+A6V2SfsWJzP4+3Y5O6Iox6x7wT+Y8/C0B9GewbJ
    b9PDNtPY4HVekgMXGcLdP0jWyOaw2TR/SJqf/NHZAoGAH+TSIhY0gkPbuFSzhVRR
    hg1eZWK2AcmLVhM8TtuIXptelJdbeniWjqIN6NlFLwEUOWwMH/iJvNc3hkwmGdcp
    CK6A89PfAkdL3WWUfwE4TOY20ay8k7aH06RxagF2RQsfa3CJCwxqHAnZwjW9G1NO
    eeZdLrqnNE2HDPvowjnhauE=
    -----END PRIVATE KEY-----

    """

  static let rsaPublic = """
    -----BEGIN PUBLIC KEY-----
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzuVcCtspH+0+oy2MYYW+
    amoTS4TgmiALlgm8ZsLW7brCQ112PK1/7+HmpKH+WwioTNzncLPKYW6IZ8plnSWe
    ZTltdZv3/1K8JhZMcegE3RjttjsZpbL4/kTz2wAmR0t8+sFNYJ615AHB601hkuyn
    U5ZZQnc6wmQSDdp44AsoTXmLVBTni8RFKJOtw0qLUxJE5FQbQEVFqKXMY8mCRfow
    d9Ruo2mhvtLLLSqIDgjArk7ra6iHFffox/XzYY/7bIbKsLzybS0p2QVxHBm03x5N
    XTzCemBV8wEqFxAJCmJXaw8FMZajvdd2nzLI/R76oKy66YW2Rd61VAdykw3QvfAb
    4QIDAQAB
    -----END PUBLIC KEY-----

    """

  static let rsaPKCS1Private = """
    -----BEGIN RSA PRIVATE KEY-----
    MIIEowIBAAKCAQEAzuVcCtspH+0+oy2MYYW+amoTS4TgmiALlgm8ZsLW7brCQ112
    PK1/7+HmpKH+WwioTNzncLPKYW6IZ8plnSWeZTltdZv3/1K8JhZMcegE3RjttjsZ
    pbL4/kTz2wAmR0t8+sFNYJ615AHB601hkuynU5ZZQnc6wmQSDdp44AsoTXmLVBTn
    i8RFKJOtw0qLUxJE5FQbQEVFqKXMY8mCRfowd9Ruo2mhvtLLLSqIDgjArk7ra6iH
    Fffox/XzYY/7bIbKsLzybS0p2QVxHBm03x5NXTzCemBV8wEqFxAJCmJXaw8FMZaj
    vdd2nzLI/R76oKy66YW2Rd61VAdykw3QvfAb4QIDAQABAoIBABHT9z6zPGO1Jo7a
    k6xqoSobyl5ZTJ5TURREcgDb3Lfe/jLeWJwpaisSSPTaRaf0AsaeyW2vfGqxYt0o
    tmFYdsHrtSgrgK72YuKYTM2K6/JeXct0Y8Uguy5z5Bx0spe1pEcaRY/kFTHYyew7
    /oKx1EhSXg4pZn2OMHUTpJNPutEUFqvODqk29/Exz1aFRAXQejW2NQplg2i60b+R
    K9Haop8vljdiGI0KH7FNHfqCe5+kwNl74gYCh/R5VEyjLYA44MOZHkMSjPD5fwNW
    QnJWCzXXdO7TRBYzT2vi+DsQWHW8GNu6KJHOO8PE85GxVjbLo9gv3UPyNPsFKW75
    p3g1c30CgYEA8i+sKqIrnvuq6psuD64ufsRJloTfqmwkwMziR2FMwPi7zkF/dqfz
    Ox0UekzMeYF+d9qr8SMHpc26Q5Xt6pwG9O0K8pxrQr3tcpqnAfeE2FBgABV3iiFF
    5ecIjz1JiAuynC63S94Wh79hxDWgswoX0UUU9N3ef+Eu/J/h6yfMLwUCgYEA2rJj
    qY4IEUxkXozpxB1b5u/SueyXPgAfg9CGCzbjhHh0+66dAVgNcHhQBToI/YoFoySF
    EXAKXO4A2zamsdCbWh9/XrhjhXXCmde2o2tm7s4pMAn8x7ff1/XZzHZRKvBoqCqX
    +kEROU8Yo48GhGrgityEi4PtLDmBdbSnqp2z+C0CgYEAgjRDGYCqdwTStOLM9r0s
    XhblgTjajuMpN0ZvePTEsRKI1bC8+Gv/Bo7xzXawj7qg5Yr42eF9YRSjyWY3zOQp
    kVBHjHuv5uf5Wp3un84U6776fdEMvYR58cot/eRzPeMcGX+8J9u0vTKVO0mhpeAN
    QgMj6ynFT3cfLc4/RY/V5IkCgYBxu0e9C5ICfPnNefav+JyskpfB/NoCcknxYOX0
    uwzC/WnI4VvhMQt8K/VhYnb+c2LPHtTc5qlc/qEPX3J9EoFX8v1oIvgOldkn7Fic
    z+Pt2OTuiKMese8E/mPPwtAfRnsGyW/TwzbT2OB1XpIDFxnC3T9I1sjmsNk0f0ia
    n/zR2QKBgB/k0iIWNIJD27hUs4VUUYYNXmVitgHJi1YTPE7biF6bXpSXW3p4lo6i
    DejZRS8BFDlsDB/4ibzXN4ZMJhnXKQiugPPT3wJHS91llH8BOEzmNtGsvJO2h9Ok
    cWoBdkULH2twiQsMahwJ2cI1vRtTTnnmXS66pzRNhwz76MI54Wrh
    -----END RSA PRIVATE KEY-----

    """

  static let rsaPKCS1Public = """
    -----BEGIN RSA PUBLIC KEY-----
    MIIBCgKCAQEAzuVcCtspH+0+oy2MYYW+amoTS4TgmiALlgm8ZsLW7brCQ112PK1/
    7+HmpKH+WwioTNzncLPKYW6IZ8plnSWeZTltdZv3/1K8JhZMcegE3RjttjsZpbL4
    /kTz2wAmR0t8+sFNYJ615AHB601hkuynU5ZZQnc6wmQSDdp44AsoTXmLVBTni8RF
    KJOtw0qLUxJE5FQbQEVFqKXMY8mCRfowd9Ruo2mhvtLLLSqIDgjArk7ra6iHFffo
    x/XzYY/7bIbKsLzybS0p2QVxHBm03x5NXTzCemBV8wEqFxAJCmJXaw8FMZajvdd2
    nzLI/R76oKy66YW2Rd61VAdykw3QvfAb4QIDAQAB
    -----END RSA PUBLIC KEY-----

    """

  static let rsaCertificate = """
    -----BEGIN CERTIFICATE-----
    MIIC+zCCAeOgAwIBAgIUVzIBJIlcIINHxY2bvcXTqnLSRucwDQYJKoZIhvcNAQEL
    BQAwDDEKMAgGA1UEAwwBeDAgFw0yNjExMjMwMDU3MzRaGA8yMTI2MTAzMDAwNTcz
    NFowDDEKMAgGA1UEAwwBeDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEB
    AM7lXArbKR/tPqMtjGGFvmpqE0uE4JogC5YJvGbC1u26wkNddjytf+/h5qSh/lsI
    qEzc53CzymFuiGfKZZ0lnmU5bXWb9/9SvCYWTHHoBN0Y7bY7GaWy+P5E89sAJkdL
    fPrBTWCeteQBwetNYZLsp1OWWUJ3OsJkEg3aeOALKE15i1QU54vERSiTrcNKi1MS
    RORUG0BFRailzGPJgkX6MHfUbqNpob7Syy0qiA4IwK5O62uohxX36Mf182GP+2yG
    yrC88m0tKdkFcRwZtN8eTV08wnpgVfMBKhcQCQpiV2sPBTGWo73Xdp8yyP0e+qCs
    uumFtkXetVQHcpMN0L3wG+ECAwEAAaNTMFEwHQYDVR0OBBYEFEkrKfk01n5tIGFO
    ncnSt5D76mmVMB8GA1UdIwQYMBaAFEkrKfk01n5tIGFOncnSt5D76mmVMA8GA1Ud
    EwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBAJ/JgaCJxMPN4evONiPxX9LS
    vlq2Vx+sXnK7gZ5hTwl0O49tKGvYnk0D7Fir7l6dejHzhEDO0JQEj8ej8xFtcrVw
    SzFnQKKqM8IcDxKVwauRBHHeTsm5qospZtU5ueEopBL5uCMTZCkOt4Gg+vCjPDqV
    /tEbFHN5fddJMOm2rCsrLg0pkOnPHXv0+5Tja0vWEPIGg3pbVDwN+WxR721NdOi/
    4nvqxL74X+0Z2m8S3jtOILfrDl1D1ispzDDegzEEG/9OGPXMqkm3STXvzNVWIYP7
    /Ji/4se5Se2VbdFnjTN8OgoJNp/IhT6TXhnQC5PE1fre75h4XLNLniD3km/iKKY=
    -----END CERTIFICATE-----

    """

  static let p256Private = """
    -----BEGIN PRIVATE KEY-----
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbstBQjZ5G0qgzFpZ
    VrbfEbE+p8Jku/dgM8woUtkH8TihRANCAASkJ7jYrAhl8ir7N6OQCd9SYHYRy212
    JyfcO4MOCBwzsFs1cNW7MYhO4PR4ULkn9+HrwN8FelmQq2dqVGASz8bo
    -----END PRIVATE KEY-----

    """

  static let p256Public = """
    -----BEGIN PUBLIC KEY-----
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEpCe42KwIZfIq+zejkAnfUmB2Ectt
    dicn3DuDDggcM7BbNXDVuzGITuD0eFC5J/fh68DfBXpZkKtnalRgEs/G6A==
    -----END PUBLIC KEY-----

    """

  static let p384Private = """
    -----BEGIN PRIVATE KEY-----
    MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBnjaZABMP/uKVx1LJ0
    A1ioApTng/K/iutwYQa6cfCP4YIQ27KZtSNcErci2+Yzo/ChZANiAARbBC0D0siK
    Qsi/JIpdz8RhapSC4hoWdFpeqrpfFCRSLo4wlCN/MowyuxKwSlvHfnKaX9T5AvHK
    d6MEH0wfevh+NmDSEEcIKiDq4FgGpytrPXECpKRP224TbRArBlRe8IY=
    -----END PRIVATE KEY-----

    """

  static let p384Public = """
    -----BEGIN PUBLIC KEY-----
    MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEWwQtA9LIikLIvySKXc/EYWqUguIaFnRa
    Xqq6XxQkUi6OMJQjfzKMMrsSsEpbx35yml/U+QLxynejBB9MH3r4fjZg0hBHCCog
    6uBYBqcraz1xAqSkT9tuE20QKwZUXvCG
    -----END PUBLIC KEY-----

    """

  static let p521Private = """
    -----BEGIN PRIVATE KEY-----
    MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIBVGo+BdNCcn7Ekqho
    mSQz2NQtFP+alSha96TvXkhbSqs1nFQ7JDeClyxnD3MXv8JdTi1BKgcOwAO+5d4n
    z6t5AIShgYkDgYYABAFe++J55u8IcT/eC4XmbDH1yRZnELYNHG3bJLF9FSH3K6HV
    3/HBugVB94CNxHoxd/XCqgaBsu+pCCeZSAQVmVHPMwGhvJUtlQY0VxmfGRmLKuYe
    25O2ySa4nSRZBeyet/BFEFG/27KNgiXrxxa7ktVrDaexGUShFh8Dkt3atXZnnZv0
    PA==
    -----END PRIVATE KEY-----

    """

  static let p521Public = """
    -----BEGIN PUBLIC KEY-----
    MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBXvvieebvCHE/3guF5mwx9ckWZxC2
    DRxt2ySxfRUh9yuh1d/xwboFQfeAjcR6MXf1wqoGgbLvqQgnmUgEFZlRzzMBobyV
    LZUGNFcZnxkZiyrmHtuTtskmuJ0kWQXsnrfwRRBRv9uyjYIl68cWu5LVaw2nsRlE
    oRYfA5Ld2rV2Z52b9Dw=
    -----END PUBLIC KEY-----

    """

  static let ed25519Private = """
    -----BEGIN PRIVATE KEY-----
    MC4CAQAwBQYDK2VwBCIEIOEXEmZ2mKlVEfsY1hIqTFJYobcUONwg/4tvctIib8d5
    -----END PRIVATE KEY-----

    """

  static let ed25519Public = """
    -----BEGIN PUBLIC KEY-----
    MCowBQYDK2VwAyEAsRtLxrASnLLcKgdVsafxsL6jAE4Hl3/aAcrOOKSTqCw=
    -----END PUBLIC KEY-----

    """
}
