"""What the demo's model is called wherever it shows; apart, since the model loads slowly."""

MODEL_ID = "secondlook-demo-tfidf-logreg"
DESCRIPTION = "TF-IDF and logistic regression on 200 short texts; not a language model"
