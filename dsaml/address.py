"""The address of the repository: the one place that decides it.

``make publish REPO=owner/name`` writes an address here, and wherever it has to be written out: in the notebooks, which Colab opens
as they are, and in files that other programs read.
"""

PLACEHOLDER = "YOUR_ACCOUNT/dsaml-companion"  # no account can have this name, so nothing is ever installed from there
REPOSITORY = "YOUR_ACCOUNT/dsaml-companion"
PUBLISHED = REPOSITORY != PLACEHOLDER

URL = f"https://github.com/{REPOSITORY}"
NOTEBOOKS = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/"  # opened in Colab
BOOK = "https://{}.github.io/{}/".format(*REPOSITORY.split("/"))  # the pages that the workflow publishes
