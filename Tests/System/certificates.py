"""Certificates for tests, made with the `openssl` command."""

import pathlib
import subprocess


class Authority:
    """A certificate authority in a folder, and what it has signed: NAME.pem with NAME.key."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = pathlib.Path(folder), name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.serial = 16
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                  "-days", "30", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
        self.path("index.txt").touch()
        self.path("ca.cnf").write_text("[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\ndefault_md=sha256\n")

    @property
    def root(self):
        return str(self.path(f"{self.name}.pem"))

    def path(self, name):
        return self.folder / name

    def _run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def sign(self, name, *, common_name=None, names="DNS:localhost,IP:127.0.0.1", days=30):
        """Makes a key and a certificate, and returns their paths. An earlier one of that name is replaced.
        A common name of "" leaves it without one."""
        self.serial += 1
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                  f"{name}.new.key", "-out", f"{name}.csr", "-subj", f"/CN={common_name or name}" if common_name != "" else f"/O={name}")
        self.path(f"{name}.ext").write_text(
            f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._run("x509", "-req", "-in", f"{name}.csr", "-CA", self.root, "-CAkey", f"{self.name}.key",
                  "-set_serial", str(self.serial), "-days", str(days), "-extfile", f"{name}.ext", "-out",
                  f"{name}.new.pem")
        self.path(f"{name}.new.key").rename(self.path(f"{name}.key"))
        self.path(f"{name}.new.pem").rename(self.path(f"{name}.pem"))
        return self.pair(name)

    def pair(self, name):
        return str(self.path(f"{name}.pem")), str(self.path(f"{name}.key"))

    def revoke(self, *names):
        """Returns the path of a list (DER) of everything revoked so far."""
        shared = ["-config", "ca.cnf", "-cert", f"{self.name}.pem", "-keyfile", f"{self.name}.key"]
        for name in names:
            self._run("ca", *shared, "-revoke", f"{name}.pem")
        self._run("ca", *shared, "-gencrl", "-crldays", "30", "-out", "crl.pem")
        self._run("crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.new.der")
        self.path("crl.new.der").rename(self.path("crl.der"))
        return str(self.path("crl.der"))

    def server_flags(self, name, *, prefix=""):
        certificate, key = self.pair(name)
        return [f"--{prefix}cert-file", certificate, f"--{prefix}key-file", key]

    def ctl_flags(self, name=None):
        """Flags of etcdctl: the root, and a client's certificate if there is a name."""
        flags = ["--cacert", self.root]
        if name:
            certificate, key = self.pair(name)
            flags += ["--cert", certificate, "--key", key]
        return flags

    def curl_flags(self, name=None):
        return self.ctl_flags(name)
