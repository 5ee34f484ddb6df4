"""Certificates of an authority of our own, made by the program `openssl`: good ones and every sort of bad one."""

import ssl
import subprocess

CONFIGURATION = """
[req]
distinguished_name = nobody
[nobody]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
certificate = authority.pem
private_key = key.pem
rand_serial = yes
default_md = sha256
default_days = 2
unique_subject = no
copy_extensions = copy
x509_extensions = server
policy = anything
[anything]
commonName = supplied
"""

DATES = {
    "expired": ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z"),
    "not yet valid": ("-startdate", "20980101000000Z", "-enddate", "20990101000000Z"),
}


class Authority:
    """Signs certificates in a directory of its own."""

    def __init__(self, place):
        self._place = place
        (place / "openssl.cnf").write_text(CONFIGURATION)
        (place / "index").touch()
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem")
        self._sign_itself("authority.pem", "An authority", "-extensions", "authority")

    def trusted(self):
        """Return what a client has that trusts this authority and nobody else."""
        return ssl.create_default_context(cafile=self._place / "authority.pem")

    def server(self, kind, name):
        """Return what a server has whose certificate for a name is "good", "self-signed" or bad in its dates."""
        file = f"{kind.replace(' ', '-')}-{name}.pem"
        if kind == "self-signed":
            self._sign_itself(file, name, "-addext", f"subjectAltName=DNS:{name}")
        else:
            self._sign(file, name, DATES.get(kind, ()))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._place / file, self._place / "key.pem")
        return context

    def _sign(self, file, name, dates):
        asked = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
        self._openssl("req", "-new", "-key", "key.pem", *asked, "-out", "asked.csr")
        self._openssl("ca", "-batch", "-notext", "-in", "asked.csr", "-out", file, *dates)

    def _sign_itself(self, file, name, *more):
        asked = ("-new", "-key", "key.pem", "-days", "2", "-subj", f"/CN={name}", *more)
        self._openssl("req", "-x509", *asked, "-out", file)

    def _openssl(self, command, *given):
        own = () if command == "genpkey" else ("-config", "openssl.cnf")
        subprocess.run(["openssl", command, *own, *given], cwd=self._place, check=True, capture_output=True)
